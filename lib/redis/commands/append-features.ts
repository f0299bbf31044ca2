import { script } from '../scripts/script.js';
import type { CommandSender, PipelinedCommand } from './command-sender.js';

/** What the XADD of a server can do. */
export interface AppendFeatures {
  /** Ids of the form `<ms>-*` (Redis 7.0). */
  readonly partialIds: boolean;
  /** Trimming by MINID (Redis 6.2). */
  readonly minId: boolean;
}

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

/** ARGV: the last id that goes, how many entries at most. Returns how many went; the way of MINID for Redis 6.0. */
export const DROP_UNTIL = script(
  'drop-until',
  `local old = redis.call('XRANGE', KEYS[1], '-', ARGV[1], 'COUNT', ARGV[2])
for _, entry in ipairs(old) do redis.call('XDEL', KEYS[1], entry[1]) end
return #old`,
);

const REFUSED_ID = /^ERR Invalid stream ID/;
const REFUSED_ARGUMENTS = /^ERR wrong number of arguments/;

/**
 * Asks with two XADD that every server refuses, because a field has no value: one that does not understand the id or the
 * option refuses that first. Undefined when the answer tells neither.
 */
export async function probeAppendFeatures(
  sender: CommandSender,
  key: string,
  patience?: number,
): Promise<AppendFeatures | undefined> {
  const commands: PipelinedCommand[] = [
    ['xadd', key, '1-*', 'field', '', 'no value'],
    ['xadd', key, 'MINID', '~', '1', '*', 'field', '', 'no value'],
  ];
  const replies = await sender.pipeline(commands, 'utf8', patience);
  const answers = replies.map((reply) => (reply instanceof Error ? reply.message : ''));
  if (!answers.every((answer) => REFUSED_ID.test(answer) || REFUSED_ARGUMENTS.test(answer))) return undefined;
  const [partialIds, minId] = answers.map((answer) => !REFUSED_ID.test(answer)) as [boolean, boolean];
  if (!partialIds) sender.onMissing?.('XADD <ms>-*');
  if (!minId) sender.onMissing?.('XADD MINID');
  return { partialIds, minId };
}
