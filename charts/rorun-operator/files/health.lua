-- The health of a RorunStack for Argo CD, which gives a health check few libraries: `string` is not among them.
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
-- The conditions are about an earlier spec, or there are none yet.
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not observed this generation of the spec yet"}
end
-- Stalled is there only while a user has to act. A state that ends by itself has no Stalled, so no sync fails for it.
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
-- A user has to act, and nothing is wrong: the release before goes on serving.
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
