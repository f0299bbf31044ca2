import { listNames } from '../../shared/list-names.js';
import { eventHandlersOf } from './handler-binding.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';
import type { RuntimeControl } from './runtime-control.js';

export interface StartLine {
  readonly groups: readonly HandlerGroup[];
  readonly control: Pick<RuntimeControl, 'isPaused' | 'addedTo'>;
  /** How many streams a wildcard has found. */
  readonly found: (binding: HandlerBinding) => number;
  /** Undefined when every handler is in real-time mode. */
  readonly group: string | undefined;
  /** Undefined when the name is generated. */
  readonly consumer: string | undefined;
  /** See `RedisConnections.describe`. */
  readonly server: string;
}

/** What a server reads and how, for its log when it has started: the first thing that is asked for when something is wrong. */
export function startLine({ groups, control, found, group, consumer, server }: StartLine): string {
  const bindings = groups.flatMap((each) => [...each.bindings.values()]);
  const number = bindings.reduce(
    (sum, each) => sum + (each.wildcard ? found(each) : 1) + control.addedTo(each.pattern).length,
    0,
  );
  const streams = groups.flatMap((each) =>
    [...each.bindings.values()].flatMap((binding) => {
      const { pattern, streamKey } = binding;
      const details = detailsOf(binding, each, control.isPaused(pattern));
      const own = streamKey === pattern ? `'${pattern}'` : `'${streamKey}' for '${pattern}'`;
      const matching = binding.wildcard ? `${count(found(binding), 'stream')} now, ` : '';
      return [`${own} (${matching}${details})`, ...control.addedTo(pattern).map((added) => `'${added}' (${details})`)];
    }),
  );
  const member = group === undefined ? '' : ` for the group '${group}'${consumer ? ` as '${consumer}'` : ''}`;
  return `Reading ${count(number, 'stream')}${member} from ${server}: ${listNames(streams)}`;
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
