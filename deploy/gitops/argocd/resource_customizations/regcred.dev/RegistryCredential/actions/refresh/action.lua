-- Has regcred look at the sources at once, and try again what it writes seldom.

local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["regcred.dev/requestedAt"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
