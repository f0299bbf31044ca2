import { eventHandlersOf } from './handler-binding.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';
import type { RuntimeControl } from './runtime-control.js';

/** Streams that the line names; a service may have hundreds. */
const MAX_NAMED = 20;

export interface StartLine {
  readonly groups: readonly HandlerGroup[];
  readonly control: Pick<RuntimeControl, 'isPaused' | 'addedTo'>;
  /** Undefined when every handler is in real-time mode. */
  readonly group: string | undefined;
  /** Undefined when the name is generated. */
  readonly consumer: string | undefined;
  /** See `RedisConnections.describe`. */
  readonly server: string;
}

/** What a server reads and how, for its log when it has started: the first thing that is asked for when something is wrong. */
export function startLine({ groups, control, group, consumer, server }: StartLine): string {
  const streams = groups.flatMap((each) =>
    [...each.bindings.values()].flatMap((binding) => {
      const { pattern, streamKey } = binding;
      const details = detailsOf(binding, each, control.isPaused(pattern));
      const own = streamKey === pattern ? `'${pattern}'` : `'${streamKey}' for '${pattern}'`;
      return [own, ...control.addedTo(pattern).map((added) => `'${added}'`)].map((name) => `${name} (${details})`);
    }),
  );
  const left = streams.length - MAX_NAMED;
  const named = streams.slice(0, MAX_NAMED).join(', ') + (left > 0 ? `, and ${left} more` : '');
  const member = group === undefined ? '' : ` for the group '${group}'${consumer ? ` as '${consumer}'` : ''}`;
  return `Reading ${count(streams.length, 'stream')}${member} from ${server}: ${named}`;
}

function detailsOf(
  binding: HandlerBinding,
  { concurrency, batch, rateLimit }: HandlerGroup,
  isPaused: boolean,
): string {
  const { mode, ack, ordered, requestHandler } = binding;
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
    ...(isPaused ? ['paused'] : []),
  ];
  return details.join(', ');
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
