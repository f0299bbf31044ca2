import { DEAD_LETTER_HEADERS, entryId } from 'nestjs-redis-streams';
import type { DeadLetterMessage, DeadLetterQuery, StreamManager, StreamMessage } from 'nestjs-redis-streams';
import { timeOf } from '../messages/time-bounds.js';
import type { RequestValues } from '../request-values.js';
import { deadLetterStreamOf } from '../stream-policy.js';
import type { StreamPolicy } from '../stream-policy.js';

/** Which dead letters a request is about. */
export interface DeadLetterSelection {
  readonly stream: string;
  readonly deadLetterStream: string;
  readonly query: Omit<DeadLetterQuery, 'count' | 'after'>;
  readonly matches: (letter: DeadLetterMessage) => boolean;
}

/** @throws BadRequestException, NotFoundException for streams that the console may not show */
export function selectionOf(values: RequestValues, policy: StreamPolicy): DeadLetterSelection {
  const stream = policy.require(values.requiredText('stream'));
  const deadLetterStream = policy.require(values.text('deadLetterStream') ?? deadLetterStreamOf(stream));
  const [group, reason, error] = [values.text('group'), values.text('reason'), values.text('error')];
  const [since, until] = [timeOf(values, 'since'), timeOf(values, 'until')];
  // The manager compares one text with reason and error; `matches` then compares the error alone.
  const text = reason ?? error;
  return {
    stream,
    deadLetterStream,
    query: {
      deadLetterStream,
      ...(group !== undefined && { group }),
      ...(text !== undefined && { reason: text }),
      ...(since && { since }),
      ...(until && { until }),
    },
    matches: ({ error: thrown }) =>
      error === undefined || [thrown?.name, thrown?.message].some((part) => part?.includes(error)),
  };
}

/**
 * The dead letters of a selection, the oldest first, in pages.
 * @param page how many at a time: all of their payloads are in memory
 */
export async function* deadLettersOf(
  manager: StreamManager,
  selection: DeadLetterSelection,
  page: number,
  first?: string,
): AsyncGenerator<DeadLetterMessage> {
  const { stream, query } = selection;
  for (let after = first; ;) {
    const found = await manager.deadLetters(stream, { ...query, count: page, ...(after !== undefined && { after }) });
    for (const letter of found) if (isOf(selection, letter) && selection.matches(letter)) yield letter;
    after = found.at(-1)?.id;
    if (found.length < page || after === undefined) return;
  }
}

/** One dead letter of a stream, whatever else the selection wants; undefined when there is none with that id. Reads that one only. */
export async function deadLetterById(
  manager: StreamManager,
  selection: DeadLetterSelection,
  id: string,
): Promise<DeadLetterMessage | undefined> {
  const { stream, deadLetterStream } = selection;
  const [entry] = await manager.range(deadLetterStream, id, id, { count: 1 });
  // Otherwise the page would begin with the next one that is of the stream, however far that is.
  if (!entry || !isOrigin(selection, entry)) return undefined;
  const after = entryId.previous(id);
  const place = { deadLetterStream, count: 1, ...(after !== undefined && { after }) };
  const [letter] = await manager.deadLetters(stream, place);
  return letter?.id === id && isOf(selection, letter) ? letter : undefined;
}

/** False for an entry that cannot be one of the selection, as its headers tell. */
export function mayBeMeant(selection: DeadLetterSelection, entry: StreamMessage): boolean {
  const { group, reason: text } = selection.query;
  const { headers } = entry;
  const names = DEAD_LETTER_HEADERS;
  const error = `${headers[names.errorName] ?? 'Error'}: ${headers[names.errorMessage] ?? ''}`;
  return (
    isOrigin(selection, entry) &&
    (group === undefined || headers[names.group] === group) &&
    (text === undefined || (headers[names.reason] ?? '').includes(text) || error.includes(text))
  );
}

function isOrigin({ stream, deadLetterStream }: DeadLetterSelection, { headers }: StreamMessage): boolean {
  return deadLetterStream === deadLetterStreamOf(stream) || (headers[DEAD_LETTER_HEADERS.stream] ?? stream) === stream;
}

/** Only `<stream>.dead` may have dead letters without headers: in any other stream, messages wait that are none. */
function isOf({ stream, deadLetterStream }: DeadLetterSelection, { origin }: DeadLetterMessage): boolean {
  return deadLetterStream === deadLetterStreamOf(stream) || origin?.streamKey === stream;
}
