-- A part of scripts that look at shelves: whether a filter admits the shelf of this name. `types` is the place in ARGV of
-- the types; queues and statuses follow. Each is written as ":a:b:", and "" admits any.

local function admits(name, types)
  local parts = { string.match(name, '^([^:]*):([^:]*):([^:]*)$') }
  for i = 1, 3 do
    local allowed = ARGV[types + i - 1]
    if allowed ~= '' and not string.find(allowed, ':' .. (parts[i] or '') .. ':', 1, true) then
      return false
    end
  end
  return true
end
