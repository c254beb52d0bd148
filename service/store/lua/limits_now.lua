-- limits_now: how many tasks wait at each limit.
--
-- KEYS  1…  limits, one per partition: their slots
-- ARGV  1…  per partition: what all names begin with
--
-- Returns a flat list: name, how many tasks wait, at how many places.

local tasks, places, names = {}, {}, {}
for _, base in ipairs(ARGV) do
  for _, place in ipairs(redis.call('SMEMBERS', base .. 'limit:places')) do
    local name = string.match(place, '^[^:]*')
    if not tasks[name] then
      tasks[name], places[name] = 0, 0
      names[#names + 1] = name
    end
    tasks[name] = tasks[name] + redis.call('ZCARD', base .. 'limit:waiting:' .. place)
    places[name] = places[name] + 1
  end
end
local waiting = {}
for _, name in ipairs(names) do
  for _, value in ipairs({ name, tasks[name], places[name] }) do
    waiting[#waiting + 1] = value
  end
end
return waiting
