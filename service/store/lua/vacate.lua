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
local record = redis.call('HGET', ARGV[1] .. 'limit:tasks', KEYS[1])
if record and string.sub(record, 1, 2) == '- ' then
  redis.call('HDEL', ARGV[1] .. 'limit:tasks', KEYS[1])
  redis.call('SREM', ARGV[1] .. 'limit:started', KEYS[1])
end
local limits = limits_part()
limits.serve_all(ARGV[1], ARGV[2], limits.clock())
return 1
