-- fetch: gives a consumer waiting entries, in the order of the streams, with their documents.
-- A document lies in its entry's slot, so it may be read without being named as a key (docs/store.md, One slot).
--
-- uses in_force.lua
-- KEYS  1…  numbers of takes, one per partition; pauses, one per partition;
--       then streams, in the order in which they are served
-- ARGV  1  group    2  consumer    3  how many at most    4  how many partitions
--
-- Returns the numbers of takes, the paused queues with blanks between, then a flat list: place of the stream, entry,
-- UID, document or false; and so on.

local group, consumer, wanted, partitions = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found, paused, names = {}, {}, {}

local function note(pauses)
  for i = 1, #pauses, 2 do
    local queue = string.match(pauses[i], '^queue:(.*)')
    if queue and not paused[queue] and is_in_force(pauses[i + 1]) then
      paused[queue] = true
      names[#names + 1] = queue
    end
  end
end

for i = 1, partitions do
  found[i] = redis.call('GET', KEYS[i]) or '0'
  local pauses = redis.call('HGETALL', KEYS[partitions + i])
  if #pauses > 0 then
    note(pauses)
  end
end
found[partitions + 1] = table.concat(names, ' ')

local function is_paused(stream)
  return #names > 0 and paused[string.match(stream, '}:%a+:(.*)')]
end

local function read(stream)
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted, 'STREAMS', stream, '>')
  if reply and reply.err then
    if not string.find(reply.err, 'NOGROUP', 1, true) then
      return reply
    end
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted, 'STREAMS', stream, '>')
  end
  return reply
end

for place = 1, #KEYS - 2 * partitions do
  local stream = KEYS[2 * partitions + place]
  local reply = not is_paused(stream) and read(stream)
  if reply and reply.err then
    return reply
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
