-- vacate: a task does not belong at a place any more. It goes only while its document still is what the caller read.
--
-- uses limits.lua
-- KEYS  1  document    2  the tasks that are admitted at the place, or its claims
-- ARGV  1  what all names begin with    2  place    3  text as read, "" for none
--
-- Returns 1 if it has gone.

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[3] or redis.call('SREM', KEYS[2], KEYS[1]) == 0 then
  return 0
end
local limits = limits_part()
local now = limits.clock()
local record = redis.call('HGET', ARGV[1] .. 'limit:tasks', KEYS[1])
if record and string.sub(record, 1, 2) == '- ' then
  limits.forget(ARGV[1], KEYS[1], now) -- at its other places it is admitted, too
end
limits.serve_all(ARGV[1], ARGV[2], now)
return 1
