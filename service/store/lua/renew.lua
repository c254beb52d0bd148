-- renew: refreshes the lease of the entries that a consumer still holds.
--
-- KEYS  1  stream
-- ARGV  1  group    2  consumer    3…  entries
--
-- Where the stream is gone with all the data, nothing is pending.
-- Returns the entries that were renewed; the others belong to somebody else by now.

local renewed = {}
for i = 3, #ARGV do
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if #pending == 1 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    renewed[#renewed + 1] = ARGV[i]
  end
end
return renewed
