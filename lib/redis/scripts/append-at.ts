import { script } from './script.js';

/** ARGV: milliseconds, how many arguments of XADD come before the id, these, names and values. Picks the id that `<ms>-*` would be. */
export const APPEND_AT = script(
  'append-at',
  `local last = '0-0'
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1] end
end
local ms, counter = string.match(last, '^(%d+)-(%d+)$')
local id = ARGV[1] .. '-0'
if ms == ARGV[1] then id = ms .. '-' .. string.format('%.0f', tonumber(counter) + 1) end
local args = { 'XADD', KEYS[1] }
local before = 2 + tonumber(ARGV[2])
for i = 3, before do args[#args + 1] = ARGV[i] end
args[#args + 1] = id
for i = before + 1, #ARGV do args[#args + 1] = ARGV[i] end
return redis.pcall(unpack(args))`,
);
