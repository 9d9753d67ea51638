-- What Argo CD shows of a RorunStack. Written for the libraries that Argo CD gives a health check: `string` is not among them.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local function is(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end
local function health(verdict, condition, message)
  return {status = verdict, message = condition ~= nil and condition.message or message}
end

local ready = conditions["Ready"]
-- What the conditions say is about an earlier spec, or about nothing yet.
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not observed this generation of the spec yet"}
end
-- Stalled is there only while a user has to act. What ends by itself has no Stalled, so that a sync does not fail for it.
if is("Stalled") then
  return health("Degraded", conditions["Stalled"])
end
if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "the stack is being deleted"}
end
if is("Suspended") then
  return health("Suspended", conditions["Suspended"])
end
if is("Hibernated") then
  return health("Suspended", conditions["Hibernated"])
end
-- A user has to act, and nothing is wrong: what served before goes on serving.
if ready.status ~= "True" and ready.reason == "AwaitingApproval" then
  return health("Suspended", ready)
end
if is("Reconciling") then
  return health("Progressing", conditions["Reconciling"])
end
if ready.status == "True" then
  return health("Healthy", ready)
end
return health("Progressing", ready)
