import { PermissionError } from 'nestjs-redis-streams/engine';
import type {
  GroupDetails,
  ClusterReadOptions,
  ShardDetails,
  StreamDetails,
  StreamManager,
} from 'nestjs-redis-streams/engine';
import { FailedError } from './failure.js';
import type { Session } from './session.js';

const MOST_LISTED = 10;

/** Details of a stream. @throws FailedError if it does not exist, WrongTypeError if the key holds another type */
export async function existingStream(manager: StreamManager, streamKey: string): Promise<StreamDetails> {
  const details = await manager.info(streamKey);
  if (details.shards.length === 0) throw noStream(streamKey);
  return details;
}

/** The same for a command that only shows it: keys on a node of a cluster that does not answer are left out, with a warning. */
export async function reachableStream(session: Session, streamKey: string): Promise<StreamDetails> {
  const manager = await session.manager();
  const details = await manager.info(streamKey, { skipUnreachable: true });
  const { shards, unreachable = [] } = details;
  if (shards.length === 0) {
    const isUnknown = unreachable.includes(streamKey);
    throw isUnknown ? new FailedError(`The node of '${streamKey}' does not answer`) : noStream(streamKey);
  }
  if (unreachable.length > 0) {
    await session.output.warn(`Left out if they exist, because their node does not answer: ${listed(unreachable)}`);
  }
  return details;
}

/** @throws FailedError if the stream does not exist, which is not known while its node does not answer */
export async function checkExistence(manager: StreamManager, streamKey: string): Promise<void> {
  const { shards, unreachable = [] } = await manager.info(streamKey, { skipUnreachable: true });
  if (shards.length === 0 && !unreachable.includes(streamKey)) throw noStream(streamKey);
}

function noStream(streamKey: string): FailedError {
  return new FailedError(`There is no stream '${streamKey}'`);
}

/** The group on each key of the stream that has it. @throws FailedError when none has */
export async function existingGroup(
  manager: StreamManager,
  streamKey: string,
  name: string,
): Promise<Array<{ shard: ShardDetails; group: GroupDetails }>> {
  const { shards } = await existingStream(manager, streamKey);
  const found = shards.flatMap((shard) =>
    shard.groups.filter((group) => group.name === name).map((group) => ({ shard, group })),
  );
  if (found.length === 0) throw new FailedError(`The stream '${streamKey}' has no group '${name}'`);
  return found;
}

/** Details of streams, and the keys of those that the user may not read. */
export async function detailsOf(
  manager: StreamManager,
  keys: readonly string[],
  options: ClusterReadOptions = {},
): Promise<{ found: StreamDetails[]; refused: string[] }> {
  const found: StreamDetails[] = [];
  const refused: string[] = [];
  for (const key of keys) {
    try {
      found.push(await manager.info(key, options));
    } catch (error) {
      if (!(error instanceof PermissionError)) throw error;
      refused.push(key);
    }
  }
  return { found, refused };
}

/** A text as a part of a regular expression. */
export function literal(text: string): string {
  return text.replace(/[\\^$.|?+*()[\]{}]/g, '\\$&');
}

/** Names for one line: the first ten, and how many more there are. */
export function listed(names: readonly string[]): string {
  const more = names.length - MOST_LISTED;
  return names.slice(0, MOST_LISTED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** The keys of all streams, in the order of their names; shards by their own names. */
export async function streamKeysOf(
  manager: StreamManager,
  options: ClusterReadOptions = {},
): Promise<{
  keys: string[];
  /** Addresses of nodes that do not answer, with `skipUnreachable`. */
  unreachable: string[];
}> {
  const streams = new Set<string>();
  const unreachable = new Set<string>();
  let cursor = '0';
  do {
    const page = await manager.scan(cursor, options);
    for (const key of page.streams) streams.add(key);
    for (const address of page.unreachable ?? []) unreachable.add(address);
    cursor = page.cursor;
  } while (cursor !== '0');
  return { keys: [...streams].sort(), unreachable: [...unreachable] };
}
