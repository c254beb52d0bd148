-- due: what Redis's own clock says is due, with the documents. A pointer without a document is removed.
--
-- KEYS  1…  due times, of one partition each
-- ARGV  1  how many at most    2  how many bytes of documents: one more than fits is the last
--
-- Returns a flat list: UID, document; and so on.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found, wanted, room = {}, tonumber(ARGV[1]), tonumber(ARGV[2])
for _, due in ipairs(KEYS) do
  for _, uid in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, wanted)) do
    wanted = wanted - 1
    local text = redis.call('GET', uid)
    if text then
      found[#found + 1] = uid
      found[#found + 1] = text
      room = room - #text
      if room <= 0 then
        return found
      end
    else
      redis.call('ZREM', due, uid)
    end
  end
end
return found
