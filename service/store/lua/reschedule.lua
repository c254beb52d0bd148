-- reschedule: writes a schedule, or removes it, only while it still is what the caller read.
--
-- KEYS  1  the schedule      2  the timetable
-- ARGV  1  its text as read, or "" for none      2  its text to be, or "" to remove it
--       3  its name          4  when it is looked at next (score)
--
-- Returns 1 if that is done, 0 if somebody was quicker.

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[2])
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
end
return 1
