import { UnsupportedOperationError } from '../../errors.js';
import { APPEND_DEDUPLICATED } from '../scripts/append-deduplicated.js';
import type { Script } from '../scripts/script.js';
import { outcomeOf } from '../wire/append-reply.js';
import { ReplyError } from '../wire/resp-reader.js';
import type { AppendRequest, Command, CommandArgument } from '../wire/resp-writer.js';
import type { CommandSender } from './command-sender.js';
import { classifyRedisError } from './redis-error.js';

/** What a script decides about a message before it appends it. */
export interface AppendConditions {
  /** The same in every repetition of the send, and in no other send. Without spaces. */
  readonly token: string;
  /** How long the send may be repeated, in milliseconds. */
  readonly repeatedFor: number;
  /** Not appended when a message with this id was, `within` that many milliseconds. */
  readonly deduplication: { readonly id: string; readonly within: number };
}

interface AppendSettings {
  /** Arguments of XADD between key and id. */
  readonly limit: ReadonlyArray<string | number>;
  /** Whether the server has ids of the form `<ms>-*`. */
  readonly partialIds: boolean;
}

/** A script call without its name: the keys, then the arguments. */
interface ScriptCall {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly CommandArgument[];
}

/** Refused as a command, by the ACL or because it has another name there; not a command inside of a script. */
const NO_SCRIPTS = /eval/i;

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
  { token, repeatedFor, deduplication }: AppendConditions,
  { limit, partialIds }: AppendSettings,
): ScriptCall {
  const record = sender.sideKey('dedup', streamKey, deduplication.id);
  const { within } = deduplication;
  const askedId = partialIds ? id : id.replace(/-\*$/, '?');
  const args = [token, within, Math.max(within, repeatedFor), limit.length, ...limit, askedId, ...fields];
  return { script: APPEND_DEDUPLICATED, keys: [sender.key(streamKey), record], args };
}

/** The id of the message, or of the first with its deduplication id; or the error. */
export function conditionalOutcome(reply: unknown): string | Error {
  const isRefused =
    reply instanceof ReplyError &&
    ['permission', 'unsupported'].includes(classifyRedisError(reply)) &&
    NO_SCRIPTS.test(reply.message);
  if (!isRefused) return outcomeOf(reply);
  return new UnsupportedOperationError('deduplication', 'needs scripts (EVAL, EVALSHA), which are not permitted here');
}
