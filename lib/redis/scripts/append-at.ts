import { script } from './script.js';

/** `nextId(ms)` picks the id that `<ms>-*` would be, for a server that does not have it. */
export const NEXT_ID = `
local function nextId(time)
  local last = '0-0'
  local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
  local ms, counter = string.match(last, '^(%d+)-(%d+)$')
  if ms ~= time then return time .. '-0' end
  return ms .. '-' .. string.format('%.0f', tonumber(counter) + 1)
end`;

/** ARGV: milliseconds, how many arguments of XADD come before the id, these, names and values. */
export const APPEND_AT = script(
  'append-at',
  `${NEXT_ID}
local args = { 'XADD', KEYS[1] }
local before = 2 + tonumber(ARGV[2])
for i = 3, before do args[#args + 1] = ARGV[i] end
args[#args + 1] = nextId(ARGV[1])
for i = before + 1, #ARGV do args[#args + 1] = ARGV[i] end
return redis.pcall(unpack(args))`,
);
