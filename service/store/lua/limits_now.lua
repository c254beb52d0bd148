-- limits_now: what limits say, and how many tasks wait at each.
--
-- KEYS  1…  limits, one per partition
-- ARGV  1…  per partition: what all names begin with
--
-- Returns a flat list of the first partition's limits: name, what it says; then a flat list of all: name, how many tasks
-- wait, at how many places.

local said, tasks, places, names = {}, {}, {}, {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if not string.find(fields[i], ':', 1, true) then
    said[#said + 1] = fields[i]
    said[#said + 1] = fields[i + 1]
  end
end
for i = 1, #KEYS do
  for _, place in ipairs(redis.call('SMEMBERS', ARGV[i] .. 'limit:places')) do
    local name = string.match(place, '^[^:]*')
    if not tasks[name] then
      tasks[name], places[name] = 0, 0
      names[#names + 1] = name
    end
    tasks[name] = tasks[name] + redis.call('ZCARD', ARGV[i] .. 'limit:waiting:' .. place)
    places[name] = places[name] + 1
  end
end
local waiting = {}
for _, name in ipairs(names) do
  for _, value in ipairs({ name, tasks[name], places[name] }) do
    waiting[#waiting + 1] = value
  end
end
return { said, waiting }
