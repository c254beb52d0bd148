-- fetch: gives a consumer waiting entries, in the order of the streams, with their documents.
-- A document lies in its entry's slot, so it may be read without being named as a key (docs/store.md, One slot).
--
-- KEYS  1  number of takes    2…  streams, in the order in which they are served
-- ARGV  1  group    2  consumer    3  how many at most
--
-- Returns the number of takes, then a flat list: place of the stream, entry, UID, document or false; and so on.

local group, consumer, wanted = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = { redis.call('GET', KEYS[1]) or '0' }
for place = 2, #KEYS do
  local stream = KEYS[place]
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted, 'STREAMS', stream, '>')
  if reply and reply.err then
    if not string.find(reply.err, 'NOGROUP', 1, true) then
      return reply
    end
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted, 'STREAMS', stream, '>')
  end
  if reply then
    local entries, uids = reply[1][2], {}
    for i, entry in ipairs(entries) do
      uids[i] = entry[2][2]
    end
    local documents = redis.call('MGET', unpack(uids))
    for i, entry in ipairs(entries) do
      found[#found + 1] = place - 1
      found[#found + 1] = entry[1]
      found[#found + 1] = uids[i]
      found[#found + 1] = documents[i]
    end
    wanted = wanted - #entries
    if wanted <= 0 then
      break
    end
  end
end
return found
