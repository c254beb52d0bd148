-- place: finds the shelf on which a task stands. Shelves lie in the slot of their names (docs/store.md, One slot).
--
-- KEYS  1  names of shelves
-- ARGV  1  what a shelf's name is appended to    2  the task
--
-- Returns the shelf's name and when the task was created (score), or an empty list.

for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local created = redis.call('ZSCORE', ARGV[1] .. name, ARGV[2])
  if created then
    return { name, created }
  end
end
return {}
