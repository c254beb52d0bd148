-- take: gives a consumer entries that another one holds, with their documents (as in fetch).
--
-- KEYS  1…  numbers of takes, one per stream (the one of its partition); then the streams
-- ARGV  1  group    2  consumer that takes    3  consumer that is dead, or "" for any
--       4  idle for at least so many ms       5  how many at most
--
-- Returns a flat list: place of the stream, number of takes by now, entry, UID, document or false, whose it was;
-- and so on.

local group, taker, dead, idle, wanted = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local count = #KEYS / 2
local found = {}
for place = 1, count do
  local stream = KEYS[count + place]
  local query = { 'XPENDING', stream, group, 'IDLE', idle, '-', '+', wanted }
  if dead ~= '' then
    query[#query + 1] = dead
  end
  local reply = redis.pcall(unpack(query))
  if reply.err and not string.find(reply.err, 'NOGROUP', 1, true) then
    return reply
  end
  local taken = {}
  for _, pending in ipairs(reply) do  -- of an error, none: there is no such stream yet
    for _, entry in ipairs(redis.call('XCLAIM', stream, group, taker, idle, pending[1])) do
      taken[#taken + 1] = { pending[1], entry[2][2], pending[2] }
    end
  end
  if #taken > 0 then
    local takes = tostring(redis.call('INCR', KEYS[place]))
    for _, one in ipairs(taken) do
      for _, value in ipairs({ place, takes, one[1], one[2], redis.call('GET', one[2]), one[3] }) do
        found[#found + 1] = value
      end
    end
    wanted = wanted - #taken
    if wanted <= 0 then
      break
    end
  end
end
return found
