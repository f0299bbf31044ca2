/** How `AggregatorRegistry` of prom-client joins the values of several processes of one service. */
export type Aggregator = 'sum' | 'max' | 'min';

export interface MetricDefinition {
  /** Without the prefix. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly LabelName[];
  readonly help: string;
  readonly aggregator: Aggregator;
}

export type LabelName = 'stream' | 'group' | 'pattern' | 'outcome' | 'code' | 'server';

const counter = <N extends string>(name: N, labels: readonly LabelName[], help: string) =>
  ({ name, type: 'counter', labels, help, aggregator: 'sum' }) as const;

const gauge = <N extends string>(name: N, labels: readonly LabelName[], aggregator: Aggregator, help: string) =>
  ({ name, type: 'gauge', labels, help, aggregator }) as const;

const histogram = <N extends string>(name: N, labels: readonly LabelName[], help: string) =>
  ({ name, type: 'histogram', labels, help, aggregator: 'sum' }) as const;

/**
 * Every metric. No label has the name of a consumer, a key or an id: those are without bound. What Redis tells is the same in
 * each process, so that it is not added up there.
 */
export const METRICS = Object.freeze([
  counter('messages_sent_total', ['stream', 'outcome'], 'Messages that Redis accepted (sent) or that failed'),
  histogram('send_duration_seconds', ['stream'], 'Time from a send to its outcome'),
  counter(
    'messages_handled_total',
    ['stream', 'group', 'pattern', 'outcome'],
    'Messages whose handler has ended, by what became of them',
  ),
  histogram('handler_duration_seconds', ['stream', 'group', 'pattern'], 'Time of one call of a handler'),
  histogram('request_duration_seconds', ['stream', 'outcome'], 'Time from a request to its last answer'),
  counter('dead_letters_total', ['stream', 'group'], 'Messages that are stored in a stream of dead letters'),
  counter('errors_total', ['code'], 'Failures in the background, by the code of the error'),
  counter('reconnects_total', [], 'Lost connections to Redis that were replaced'),
  counter('read_loop_restarts_total', ['group'], 'Read loops that stood still and were restarted'),
  gauge('connection_up', ['server'], 'min', 'Whether every connection to Redis is live (1) or not (0)'),
  gauge('queued', [], 'sum', 'Messages to send that Redis has not accepted yet'),
  gauge('buffered', ['group'], 'sum', 'Messages that were read and not given to a handler yet'),
  gauge('in_flight', ['group'], 'sum', 'Messages that were given to a handler and are not settled yet'),
  gauge('oldest_handler_seconds', ['group'], 'max', 'Age of the oldest handler that runs; 0 while none runs'),
  gauge(
    'all_handlers_busy_seconds',
    ['group'],
    'max',
    'For how long every place for a handler has been taken and no handler has ended; 0 while a place is free',
  ),
  gauge(
    'loop_healthy',
    ['group'],
    'min',
    'Whether every read loop of the group reads and has a free handler (1) or not (0)',
  ),
  gauge('group_lag', ['stream', 'group'], 'max', 'Entries that were not delivered to the group yet'),
  gauge(
    'group_lag_seconds',
    ['stream', 'group'],
    'max',
    'Age of the oldest entry that was not delivered to the group yet',
  ),
  gauge('group_pending', ['stream', 'group'], 'max', 'Entries that were delivered and are not acknowledged'),
  gauge(
    'group_oldest_pending_seconds',
    ['stream', 'group'],
    'max',
    'Idle time of the oldest entry that is pending; 0 when none is',
  ),
  gauge('stream_entries', ['stream'], 'max', 'Entries in the stream'),
] as const satisfies readonly MetricDefinition[]);

export type MetricName = (typeof METRICS)[number]['name'];
export type GaugeName = Extract<(typeof METRICS)[number], { type: 'gauge' }>['name'];

export const GAUGES: readonly GaugeName[] = METRICS.flatMap((metric) => (metric.type === 'gauge' ? metric.name : []));
