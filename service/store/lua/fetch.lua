-- fetch: gives a consumer waiting entries, in the order of the streams, with their documents.
-- A document lies in its entry's slot, so it may be read without being named as a key (docs/store.md, One slot).
--
-- KEYS  1…  numbers of takes, one per partition; then streams, in the order in which they are served
-- ARGV  1  group    2  consumer    3  how many at most    4  how many partitions
--
-- Returns the numbers of takes, then a flat list: place of the stream, entry, UID, document or false; and so on.

local group, consumer, wanted, partitions = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}
for i = 1, partitions do
  found[i] = redis.call('GET', KEYS[i]) or '0'
end
for place = 1, #KEYS - partitions do
  local stream = KEYS[partitions + place]
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
      found[#found + 1] = place
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
