import { entriesOf } from '../wire/stream-entry.js';
import type { StreamEntry } from '../wire/stream-entry.js';
import type { ClaimedPage, GroupConsumerInfo, GroupInfo, PendingEntry, StreamInfo } from './stream-commands.js';

/** XPENDING with a range. */
export function parsePending(reply: unknown): PendingEntry[] {
  if (!Array.isArray(reply)) return [];
  return (reply as Array<[string, string, number, number]>).map(([id, consumer, idle, deliveryCount]) => ({
    id,
    consumer,
    idle: Number(idle),
    deliveryCount: Number(deliveryCount),
  }));
}

export function parseStreamInfo(reply: unknown): StreamInfo {
  const info = toMap(reply);
  const added = info.get('entries-added');
  return {
    length: Number(info.get('length')),
    firstId: idOfEntry(info.get('first-entry')),
    lastId: idOfEntry(info.get('last-entry')),
    lastGeneratedId: String(info.get('last-generated-id')),
    entriesAdded: added === undefined ? undefined : Number(added),
  };
}

function idOfEntry(entry: unknown): string | undefined {
  return Array.isArray(entry) ? String(entry[0]) : undefined;
}

export function parseGroups(reply: unknown): GroupInfo[] {
  if (!Array.isArray(reply)) return [];
  return reply.map((row) => {
    const info = toMap(row);
    const lag = info.get('lag');
    return {
      name: String(info.get('name')),
      consumers: Number(info.get('consumers')),
      pending: Number(info.get('pending')),
      lastDeliveredId: String(info.get('last-delivered-id')),
      lag: lag === undefined || lag === null ? undefined : Number(lag),
    };
  });
}

export function parseConsumers(reply: unknown): GroupConsumerInfo[] {
  if (!Array.isArray(reply)) return [];
  return reply.map((row) => {
    const info = toMap(row);
    const inactive = Number(info.get('inactive') ?? -1);
    return {
      name: String(info.get('name')),
      pending: Number(info.get('pending')),
      idle: Number(info.get('idle')),
      inactive: inactive < 0 ? undefined : inactive,
    };
  });
}

/** One reply for each id: `[]` not ours any more, `[entry]` claimed, `0` or `[null]` deleted. */
export function collectClaims(
  pending: readonly PendingEntry[],
  counts: readonly number[],
  replies: readonly unknown[],
): ClaimedPage {
  const entries: StreamEntry[] = [];
  const deleted: string[] = [];
  replies.forEach((reply, index) => {
    if (reply instanceof Error) throw reply;
    const id = (pending[index] as PendingEntry).id;
    const [entry] = entriesOf(reply);
    if (entry?.fields) entries.push({ ...entry, deliveryCount: counts[index] as number });
    else if (reply === 0 || entry || (reply as unknown[]).length > 0) deleted.push(id);
  });
  return { entries, deleted };
}

/** XINFO answers names and values in turn. */
function toMap(reply: unknown): Map<string, unknown> {
  const map = new Map<string, unknown>();
  if (!Array.isArray(reply)) return map;
  for (let index = 0; index + 1 < reply.length; index += 2) map.set(String(reply[index]), reply[index + 1]);
  return map;
}

/** For replies of a pipeline. @throws the first error among them */
export function throwFirst(outcomes: readonly unknown[]): void {
  const error = outcomes.find((outcome): outcome is Error => outcome instanceof Error);
  if (error) throw error;
}
