-- retire: forgets a consumer, if nothing is pending for it in any of the streams.
--
-- KEYS  1…  streams
-- ARGV  1  group    2  consumer
--
-- A stream that does not exist yet has nothing pending.
-- Returns 1 if it is forgotten, 0 if something is pending.

local known = {}
for _, stream in ipairs(KEYS) do
  local pending = redis.pcall('XPENDING', stream, ARGV[1], '-', '+', 1, ARGV[2])
  if #pending > 0 then
    return 0
  end
  if not pending.err then
    known[#known + 1] = stream
  end
end
for _, stream in ipairs(known) do
  redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], ARGV[2])
end
return 1
