import { eventHandlersOf } from './handler-binding.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';

/** Streams that the line names; a service may have hundreds. */
const MAX_NAMED = 20;

export interface StartLine {
  readonly groups: readonly HandlerGroup[];
  /** Undefined when every handler is in real-time mode. */
  readonly group: string | undefined;
  /** Undefined when the name is generated. */
  readonly consumer: string | undefined;
  /** See `RedisConnections.describe`. */
  readonly server: string;
}

/** What a server reads and how, for its log when it has started: the first thing that is asked for when something is wrong. */
export function startLine({ groups, group, consumer, server }: StartLine): string {
  const streams = groups.flatMap((each) => [...each.bindings.values()].map((binding) => streamText(binding, each)));
  const left = streams.length - MAX_NAMED;
  const named = streams.slice(0, MAX_NAMED).join(', ') + (left > 0 ? `, and ${left} more` : '');
  const member = group === undefined ? '' : ` for the group '${group}'${consumer ? ` as '${consumer}'` : ''}`;
  return `Reading ${count(streams.length, 'stream')}${member} from ${server}: ${named}`;
}

function streamText(binding: HandlerBinding, { concurrency, batch, rateLimit }: HandlerGroup): string {
  const { pattern, mode, ack, ordered, requestHandler } = binding;
  const events = requestHandler ? binding.eventHandlers.length : eventHandlersOf(binding).length;
  const details = [
    ...(events > 0 ? [count(events, 'event handler')] : []),
    ...(requestHandler ? ['1 request handler'] : []),
    mode,
    `concurrency ${concurrency}`,
    ...(batch ? [`batches of ${batch.size}`] : []),
    ...(ordered ? ['ordered'] : []),
    ...(rateLimit ? [`at most ${rateLimit.max} in ${rateLimit.per} ms for each ${rateLimit.scope}`] : []),
    ...(ack === 'manual' ? ['manual ack'] : []),
  ];
  return `'${pattern}' (${details.join(', ')})`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
