-- take: gives a consumer entries that another one holds, with their documents (as in fetch).
--
-- KEYS  1  stream    2  number of takes
-- ARGV  1  group    2  consumer that takes    3  consumer that is dead, or "" for any
--       4  idle for at least so many ms       5  how many at most
--
-- Returns the number of takes, then a flat list: entry, UID, document or false, whose it was; and so on.

local group, taker, dead, idle, wanted = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local query = { 'XPENDING', KEYS[1], group, 'IDLE', idle, '-', '+', wanted }
if dead ~= '' then
  query[#query + 1] = dead
end
local reply = redis.pcall(unpack(query))
if reply.err and not string.find(reply.err, 'NOGROUP', 1, true) then
  return reply
end
local found = { '0' }
for _, pending in ipairs(reply) do  -- of an error, none: there is no such stream yet
  local id, owner = pending[1], pending[2]
  for _, entry in ipairs(redis.call('XCLAIM', KEYS[1], group, taker, idle, id)) do
    local uid = entry[2][2]
    found[#found + 1] = id
    found[#found + 1] = uid
    found[#found + 1] = redis.call('GET', uid)
    found[#found + 1] = owner
  end
end
if #found > 1 then
  redis.call('INCR', KEYS[2])
end
found[1] = redis.call('GET', KEYS[2]) or '0'
return found
