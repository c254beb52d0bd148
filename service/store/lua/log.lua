-- log: appends lines to a task's log, leaves the newest, and gives it the document's time to live.
-- A line's id is its number, from 1 on, and how many bytes there were up to its end. Lines that were left out have
-- numbers, too. Lines that were sent before change nothing, if none came in between: each is unlike all others of its task.
--
-- KEYS  1  document    2  log
-- ARGV  1  how many lines stay       2  how many bytes stay
--       3  lines left out before these    4  channel that tells of changes    5…  lines
--
-- Returns 1, or 0 where there is no such document: then nothing is stored.

local most_lines, most_bytes, added = tonumber(ARGV[1]), tonumber(ARGV[2]), #ARGV - 4
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local number, bytes = 0, 0
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if last then
  local before, upto = string.match(last[1], '(%d+)-(%d+)')
  number, bytes = tonumber(before), tonumber(upto)
end
if not last or last[2][2] ~= ARGV[#ARGV] then
  if added >= most_lines then
    redis.call('UNLINK', KEYS[2])
  end
  number = number + ARGV[3]
  for i = 5, #ARGV do
    number, bytes = number + 1, bytes + #ARGV[i]
    redis.call('XADD', KEYS[2], string.format('%.0f-%.0f', number, bytes), 'line', ARGV[i])
  end
  redis.call('XTRIM', KEYS[2], 'MAXLEN', most_lines)
  local full = true
  while full do
    full = false
    for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 16)) do
      full = bytes - string.match(entry[1], '%-(%d+)') + #entry[2][2] > most_bytes
      if not full then
        break
      end
      redis.call('XDEL', KEYS[2], entry[1])
    end
  end
  -- pcall: a user without the right to publish may still write.
  redis.pcall('SPUBLISH', ARGV[4], 'log ' .. KEYS[1])
end
local left = redis.call('PTTL', KEYS[1])
if left > 0 then
  redis.call('PEXPIRE', KEYS[2], left)
end
return 1
