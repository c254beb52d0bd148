-- park: sets aside waiting tasks of a type that no runner has known for a while, each only while its document is still
-- what was read and its entry is the consumer's. Their entries are dropped.
--
-- uses limits.lua
-- KEYS  1  stream    2  known types    3  names of lots    4  lot    5  number of takes    6…  documents
-- ARGV  1  group     2  consumer       3  type             4  name of the lot
--       5  for how long nobody must have known it (microseconds)    6  what all names begin with
--       then per document: text as read, created (score), entry
--
-- A type of which nobody has told yet counts as known until now.
-- Returns the places (from 1) of the documents that were not parked.

local first = 6
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local told = redis.call('ZSCORE', KEYS[2], ARGV[3])
if not told then
  redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[3])
end
local is_known = not told or tonumber(told) >= now - ARGV[5]

local limits = not is_known and limits_part()

local kept, parked, dropped = {}, {}, {}
for i = 1, #KEYS - first + 1 do
  local uid, at = KEYS[first + i - 1], 3 * i + 4
  local entry = ARGV[at + 2]
  local pending = not is_known and redis.pcall('XPENDING', KEYS[1], ARGV[1], entry, entry, 1, ARGV[2])
  if pending and #pending == 1 and redis.call('GET', uid) == ARGV[at] then
    parked[#parked + 1] = ARGV[at + 1]
    parked[#parked + 1] = uid
    dropped[#dropped + 1] = entry
    limits.forget(ARGV[6], uid, now)
  else
    kept[#kept + 1] = i
  end
end
if #dropped > 0 then
  redis.call('ZADD', KEYS[4], unpack(parked))
  redis.call('SADD', KEYS[3], ARGV[4])
  redis.call('XACK', KEYS[1], ARGV[1], unpack(dropped))
  redis.call('XDEL', KEYS[1], unpack(dropped))
  redis.call('INCR', KEYS[5]) -- as if taken: a claim of these entries that is sent again finds that they are gone
end
return kept
