-- Tells Argo CD how healthy a RegistryCredential is.
--
-- It reads what kstatus reads: observedGeneration and the conditions Stalled, Reconciling and Ready.
-- In two places it says more than kstatus, which knows only current, in progress and failed:
-- a suspended object is Suspended, and Ready=False is Degraded unless regcred says Reconciling=True,
-- which it does for as long as it waits for a source or tries by itself.
--
-- Argo CD runs this as Lua 5.1 without the libraries string, math and io.

-- Whatever is not a table counts as an empty one: an object in the making lacks fields.
local function fields(value)
  if type(value) == "table" then
    return value
  end
  return {}
end

local object = fields(obj)
local metadata = fields(object.metadata)
local status = fields(object.status)

local conditions = {}
for _, entry in pairs(fields(status.conditions)) do
  local condition = fields(entry)
  if type(condition.type) == "string" then
    conditions[condition.type] = condition
  end
end

local function is(kind, value)
  return fields(conditions[kind]).status == value
end

-- The message of a condition, else its reason, else the text that is given.
local function text(kind, otherwise)
  local condition = fields(conditions[kind])
  for _, key in ipairs({ "message", "reason" }) do
    if type(condition[key]) == "string" and condition[key] ~= "" then
      return condition[key]
    end
  end
  return otherwise
end

local hs = {}

if metadata.deletionTimestamp ~= nil then
  hs.status = "Progressing"
  hs.message = "being deleted; the operator cleans up first"
elseif status.observedGeneration == nil then
  hs.status = "Progressing"
  hs.message = "no status yet; does the operator run?"
elseif status.observedGeneration ~= metadata.generation then
  -- All that status says is about an older spec.
  hs.status = "Progressing"
  hs.message = "the operator has not seen the last change yet"
elseif is("Stalled", "True") then
  -- No retry helps; a user must change something.
  hs.status = "Degraded"
  hs.message = text("Stalled", "stalled")
elseif fields(object.spec).suspend == true then
  -- Ready still has its last value, which may be old.
  hs.status = "Suspended"
  hs.message = text("Reconciling", "spec.suspend is set")
elseif is("Reconciling", "True") then
  -- A source that is not there yet is this too (WaitingForSource), although Ready is False.
  hs.status = "Progressing"
  hs.message = text("Reconciling", "work is under way")
elseif is("Ready", "True") then
  hs.status = "Healthy"
  hs.message = text("Ready", "ready")
elseif is("Ready", "False") then
  hs.status = "Degraded"
  hs.message = text("Ready", "not ready")
else
  hs.status = "Progressing"
  hs.message = text("Ready", "not known yet whether it is ready")
end

return hs
