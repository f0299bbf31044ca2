import { UnsupportedOperationError } from '../../errors.js';
import { APPEND_DEDUPLICATED } from '../scripts/append-deduplicated.js';
import { SCHEDULE } from '../scripts/delayed.js';
import type { Script } from '../scripts/script.js';
import { outcomeOf } from '../wire/append-reply.js';
import type { AppendRequest, Command, CommandArgument } from '../wire/resp-writer.js';
import type { CommandSender } from './command-sender.js';
import type { TimestampFormat } from './entry-id.js';
import { areScriptsDenied } from './redis-error.js';
import type { AppendConditions, TrimLimit } from './stream-commands.js';

interface AppendSettings {
  /** Of a delayed message, applied when it is appended. */
  readonly trim: TrimLimit;
  /** Arguments of XADD between key and id. */
  readonly limit: ReadonlyArray<string | number>;
  /** Whether the server has ids of the form `<ms>-*`. */
  readonly partialIds: boolean;
  /** Where ids have nanoseconds: what the script gets for the id of a request. */
  readonly nanosecondId: ((id: string) => string) | undefined;
}

/** A script call without its name: the keys, then the arguments. */
interface ScriptCall {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly CommandArgument[];
}

/** For how long at least a delayed message is remembered: the clock of the server may be set forward. */
const MIN_MEMORY = 600_000;

/** `<token>@<due>`: a message that waits, or did. */
const DELAYED_ID = /^\S+@\d+$/;

/**
 * One script call for each request. The first one has the text of the script, so that those behind it find it on the server:
 * one that failed for want of it would be overtaken by the batches that are in flight already.
 */
export function conditionalCommands(
  sender: CommandSender,
  streamKey: string,
  requests: readonly AppendRequest[],
  conditions: readonly AppendConditions[],
  settings: AppendSettings,
): Command[] {
  const known = new Set<Script>();
  return requests.map((request, index): Command => {
    const { script, keys, args } = callOf(sender, streamKey, request, conditions[index] as AppendConditions, settings);
    const isKnown = known.has(script);
    known.add(script);
    return isKnown
      ? ['EVALSHA', script.sha, keys.length, ...keys, ...args]
      : ['EVAL', script.source, keys.length, ...keys, ...args];
  });
}

function callOf(
  sender: CommandSender,
  streamKey: string,
  { id, fields }: AppendRequest,
  { token, repeatedFor, deduplication, due }: AppendConditions,
  { limit, partialIds, nanosecondId, trim }: AppendSettings,
): ScriptCall {
  const records = deduplication ? [sender.sideKey('dedup', streamKey, deduplication.id)] : [];
  const { within = 0 } = deduplication ?? {};
  const lifetime = Math.max(within, repeatedFor);
  if (due) {
    const time = 'at' in due ? ['at', due.at] : ['in', due.in];
    const format: TimestampFormat = nanosecondId ? 'ns' : 'ms';
    const remembered = [Math.max(repeatedFor, MIN_MEMORY), within, lifetime];
    const args = [token, ...time, ...remembered, ...trimOf(trim), format, ...fields];
    return { script: SCHEDULE, keys: [sender.key(streamKey), ...delayedKeys(sender, streamKey), ...records], args };
  }
  const askedId = nanosecondId?.(id) ?? (partialIds ? id : id.replace(/-\*$/, '?'));
  const args = [token, within, lifetime, limit.length, ...limit, askedId, ...fields];
  return { script: APPEND_DEDUPLICATED, keys: [sender.key(streamKey), ...records], args };
}

/** The keys of what waits beside a stream or shard; in its slot. */
export function delayedKeys(
  sender: CommandSender,
  streamKey: string,
): [delayed: string, waiting: string, moved: string] {
  return [
    sender.sideKey('delayed', streamKey),
    sender.sideKey('waiting', streamKey),
    sender.sideKey('moved', streamKey),
  ];
}

function trimOf({ maxLen, minAge }: TrimLimit): [kind: string, value: number | ''] {
  if (maxLen !== undefined) return ['MAXLEN', maxLen];
  return minAge === undefined ? ['', ''] : ['MINID', minAge];
}

/** The id of the message, or of the first with its deduplication id, which may be that of a delayed one; or the error. */
export function conditionalOutcome(reply: unknown, { due }: AppendConditions): string | Error {
  if (typeof reply === 'string' && DELAYED_ID.test(reply)) return reply;
  if (!areScriptsDenied(reply)) return outcomeOf(reply);
  return new UnsupportedOperationError(
    due ? 'a delayed message' : 'deduplication',
    'needs scripts (EVAL, EVALSHA), which are not permitted here',
  );
}
