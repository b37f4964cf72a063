-- Tells Argo CD which actions a RegistryCredential offers now.

local suspended = obj.spec ~= nil and obj.spec.suspend == true
local ending = obj.metadata.deletionTimestamp ~= nil

local actions = {}
-- While it is suspended nothing is written, so a refresh would change nothing.
actions["refresh"] = { disabled = suspended or ending }
actions["suspend"] = { disabled = suspended or ending }
actions["resume"] = { disabled = ending or not suspended }
return actions
