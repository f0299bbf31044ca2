import type { RedisStreamsError } from '../errors.js';
import type {
  DeadLetteredDetails,
  ProcessDetails,
  ProcessOperation,
  ProcessOutcome,
  RequestDetails,
  RequestOperation,
  RequestOutcome,
  SendOperation,
  SendOutcome,
  SentMessageDetails,
  Telemetry,
  TelemetrySource,
} from '../engine/telemetry/telemetry.js';
import { LabelValues, OTHER } from './label-values.js';
import { GAUGES } from './metrics.js';
import type { GaugeName, MetricName } from './metrics.js';
import type { ResolvedPrometheusOptions } from './options.js';
import type { MetricValues } from './registered-metric.js';
import { Durations, Series } from './series.js';
import type { LabelLimits, Sample, Total } from './series.js';
import { SourceList } from './source-list.js';

/** The label `stream` of all streams of answers: each client has its own. */
const REPLIES = '(replies)';

const noneSent = () => ({ sent: 0, failed: 0 });
const noneHandled = () => ({ ack: 0, retry: 0, 'dead-letter': 0, failed: 0, pending: 0, expired: 0, undecided: 0 });

type HandledOutcome = keyof ReturnType<typeof noneHandled>;
type RequestResult = 'answered' | 'failed' | 'timeout' | 'cancelled';

/**
 * The telemetry of one registry and prefix. On the way of a message it changes plain numbers and does nothing else; they become
 * samples when the registry is scraped.
 */
export class PrometheusExporter implements Telemetry {
  readonly options: ResolvedPrometheusOptions;
  readonly #sources: SourceList;
  readonly #sent: Series<ReturnType<typeof noneSent>>;
  readonly #sendTimes: Series<Durations>;
  readonly #handled: Series<ReturnType<typeof noneHandled>>;
  readonly #handlerTimes: Series<Durations>;
  readonly #requestTimes: Series<Durations>;
  readonly #deadLetters: Series<Total>;
  readonly #errors: Series<Total>;

  constructor(options: ResolvedPrometheusOptions) {
    this.options = options;
    const limits = limitsOf(options);
    const total = (): Total => ({ value: 0 });
    const durations = (): Durations => new Durations(options.buckets);
    this.#sources = new SourceList(limits, options);
    this.#sent = new Series(['stream'], limits, noneSent);
    this.#sendTimes = new Series(['stream'], limits, durations);
    this.#handled = new Series(['stream', 'group', 'pattern'], limits, noneHandled);
    this.#handlerTimes = new Series(['stream', 'group', 'pattern'], limits, durations);
    this.#requestTimes = new Series(['stream', 'outcome'], limits, durations);
    this.#deadLetters = new Series(['stream', 'group'], limits, total);
    this.#errors = new Series(['code'], limits, total);
  }

  attach(source: TelemetrySource): () => void {
    return this.#sources.attach(source);
  }

  startSend({ kind, streamKey }: SentMessageDetails): SendOperation {
    return new Sending(kind === 'reply' ? REPLIES : streamKey, this.#sent, this.#sendTimes);
  }

  startProcess(_messages: unknown, details: ProcessDetails): ProcessOperation {
    return new Handling(details, this.#handled, this.#handlerTimes);
  }

  startRequest({ streamKey }: RequestDetails): RequestOperation {
    return {
      end: (outcome, duration) => this.#requestTimes.at(streamKey, requestResult(outcome)).observe(duration / 1_000),
    };
  }

  deadLettered({ message, group }: DeadLetteredDetails): void {
    this.#deadLetters.at(message.streamKey, group).value += 1;
  }

  failed({ code }: RedisStreamsError): void {
    this.#errors.at(code).value += 1;
  }

  /** The values of every metric, by its name without the prefix. */
  values(): Record<MetricName, MetricValues> {
    const { prefix } = this.options;
    const sources = this.#sources;
    return {
      messages_sent_total: byOutcome(this.#sent),
      send_duration_seconds: distribution(`${prefix}send_duration_seconds`, this.#sendTimes),
      messages_handled_total: byOutcome(this.#handled),
      handler_duration_seconds: distribution(`${prefix}handler_duration_seconds`, this.#handlerTimes),
      request_duration_seconds: distribution(`${prefix}request_duration_seconds`, this.#requestTimes),
      dead_letters_total: totals(this.#deadLetters, () => this.#expectDeadLetters()),
      errors_total: totals(this.#errors),
      reconnects_total: {
        collect: async () => sources.observe().then(() => [{ labels: {}, value: sources.reconnects.value }]),
        reset: () => void (sources.reconnects.value = 0),
      },
      read_loop_restarts_total: totals(sources.restarts, () => sources.observe()),
      ...(Object.fromEntries(GAUGES.map((name) => [name, this.#gauge(name)])) as Record<GaugeName, MetricValues>),
    };
  }

  #gauge(name: GaugeName): MetricValues {
    return { collect: async () => (await this.#sources.observe()).gauges.samples(name), reset: () => undefined };
  }

  /** A series that begins with its first dead letter shows no increase: an alert would miss it. */
  async #expectDeadLetters(): Promise<void> {
    const { reports } = await this.#sources.observe();
    for (const { stats } of reports)
      for (const { group, streamKeys } of stats.loops)
        for (const streamKey of group === undefined ? [] : streamKeys) this.#deadLetters.at(streamKey, group);
  }
}

class Sending implements SendOperation {
  readonly #stream: string;
  readonly #sent: Series<ReturnType<typeof noneSent>>;
  readonly #times: Series<Durations>;

  constructor(stream: string, sent: Series<ReturnType<typeof noneSent>>, times: Series<Durations>) {
    this.#stream = stream;
    this.#sent = sent;
    this.#times = times;
  }

  end({ error }: SendOutcome, duration: number): void {
    this.#sent.at(this.#stream)[error === undefined ? 'sent' : 'failed'] += 1;
    this.#times.at(this.#stream).observe(duration / 1_000);
  }
}

class Handling implements ProcessOperation {
  readonly #details: ProcessDetails;
  readonly #handled: Series<ReturnType<typeof noneHandled>>;
  readonly #times: Series<Durations>;

  constructor(details: ProcessDetails, handled: Series<ReturnType<typeof noneHandled>>, times: Series<Durations>) {
    this.#details = details;
    this.#handled = handled;
    this.#times = times;
  }

  /** A batch of a wildcard has messages of several streams, and the time of one call. */
  end(outcomes: readonly ProcessOutcome[], duration: number): void {
    const { kind, streamKey, group, pattern } = this.#details;
    let hasRun = false;
    for (const outcome of outcomes) {
      hasRun ||= !outcome.isExpired;
      if (outcome.isHandledAlone) continue;
      this.#handled.at(outcome.message.streamKey, group, pattern)[handledOutcome(outcome, kind)] += 1;
    }
    if (hasRun) this.#times.at(streamKey, group, pattern).observe(duration / 1_000);
  }
}

/** A failure that nothing repeats is that of a request, which is answered with it, or of a mode without pending entries. */
function handledOutcome(
  { isExpired, settlement, error }: ProcessOutcome,
  kind: ProcessDetails['kind'],
): HandledOutcome {
  if (isExpired) return 'expired';
  if (settlement === 'retry' || settlement === 'dead-letter') return settlement;
  if (error !== undefined) return 'failed';
  // A request is acknowledged once its answer is stored.
  return settlement ?? (kind === 'request' ? 'ack' : 'undecided');
}

function requestResult({ error, isCancelled }: RequestOutcome): RequestResult {
  if (isCancelled) return 'cancelled';
  if (error === undefined) return 'answered';
  return (error as Partial<RedisStreamsError> | null)?.code === 'ERR_REQUEST_TIMEOUT' ? 'timeout' : 'failed';
}

function limitsOf({ maxLabelValues, logger }: ResolvedPrometheusOptions): LabelLimits {
  const limit = (label: string): LabelValues =>
    new LabelValues(maxLabelValues, () =>
      logger.warn(
        `Metrics: more than maxLabelValues = ${maxLabelValues} values of the label '${label}'; further ones are counted as '${OTHER}'`,
      ),
    );
  return { stream: limit('stream'), group: limit('group'), pattern: limit('pattern'), code: limit('code') };
}

/** @param prepare brings the totals up to date */
function totals(series: Series<Total>, prepare: () => Promise<unknown> | undefined = () => undefined): MetricValues {
  const samples = (): Sample[] => [...series.entries()].map(([labels, { value }]) => ({ labels, value }));
  return { collect: async () => prepare()?.then(samples) ?? samples(), reset: () => series.clear() };
}

/** Every outcome is shown from the first message on, so that an increase from 0 is seen. */
function byOutcome(series: Series<Readonly<Record<string, number>>>): MetricValues {
  const samples = (): Sample[] =>
    [...series.entries()].flatMap(([labels, counts]) =>
      Object.entries(counts).map(([outcome, value]) => ({ labels: { ...labels, outcome }, value })),
    );
  return { collect: async () => samples(), reset: () => series.clear() };
}

function distribution(name: string, series: Series<Durations>): MetricValues {
  const samples = (): Sample[] => [...series.entries()].flatMap(([labels, times]) => times.samples(name, labels));
  return { collect: async () => samples(), reset: () => series.clear() };
}
