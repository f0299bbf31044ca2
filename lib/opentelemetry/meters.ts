import { createNoopMeter, metrics } from '@opentelemetry/api';
import type { Attributes, Counter, Histogram, Meter, MeterProvider } from '@opentelemetry/api';

import { DURATION_BUCKETS, METRICS, SCOPE } from './conventions.js';

/** Sets of attributes whose counts wait for the next collection. */
const MAX_WAITING = 1_000;
/** Durations that wait for the next collection. */
const MAX_WAITING_DURATIONS = 500;

interface Instruments {
  readonly operationDuration: Histogram;
  readonly processDuration: Histogram;
  readonly sentMessages: Counter;
  readonly consumedMessages: Counter;
}

/**
 * The instruments of the four metrics. They belong to the provider that was given or, as soon as there is one, to the
 * registered provider: an application may start its SDK later, and the API has no proxy for metrics as it has for traces.
 * Messages are counted here and added to the counters when these are collected, because one call of an instrument costs as
 * much as a span. The durations of a histogram cannot be summed up, so each is one call; many calls in a row cost less than
 * one call between the steps of each message.
 */
export class Meters {
  readonly #given: MeterProvider | undefined;
  #provider: MeterProvider | undefined;
  #instruments: Instruments | undefined;
  readonly #sent = new Map<Attributes, number>();
  readonly #consumed = new Map<Attributes, number>();
  readonly #operationTimes = new Map<Attributes, number[]>();
  readonly #processTimes = new Map<Attributes, number[]>();
  #waitingTimes = 0;

  constructor(provider: MeterProvider | undefined) {
    this.#given = provider;
  }

  /** Whether there is a provider that does something. */
  get isRegistered(): boolean {
    return metrics.getMeterProvider().getMeter(SCOPE) !== createNoopMeter();
  }

  /** @param milliseconds of a send, a receive or a request */
  operationEnded(milliseconds: number, attributes: Attributes): void {
    this.#time('operationDuration', this.#operationTimes, milliseconds / 1_000, attributes);
  }

  /** @param milliseconds of the handlers of a message or a batch */
  processEnded(milliseconds: number, attributes: Attributes): void {
    this.#time('processDuration', this.#processTimes, milliseconds / 1_000, attributes);
  }

  messageSent(attributes: Attributes): void {
    this.#count(this.#sent, attributes, 1);
  }

  messagesConsumed(count: number, attributes: Attributes): void {
    this.#count(this.#consumed, attributes, count);
  }

  #count(counts: Map<Attributes, number>, attributes: Attributes, count: number): void {
    counts.set(attributes, (counts.get(attributes) ?? 0) + count);
    if (counts.size > MAX_WAITING) this.#flush(this.#current());
  }

  /** The first duration of a series is recorded at once: the SDK takes the time of the call as the start of the series. */
  #time(
    name: 'operationDuration' | 'processDuration',
    times: Map<Attributes, number[]>,
    seconds: number,
    attributes: Attributes,
  ): void {
    const instruments = this.#current();
    const waiting = times.get(attributes);
    if (!waiting) {
      times.set(attributes, []);
      instruments[name].record(seconds, attributes);
      if (times.size > MAX_WAITING) this.#flushTimes(instruments);
      return;
    }
    waiting.push(seconds);
    this.#waitingTimes += 1;
    if (this.#waitingTimes >= MAX_WAITING_DURATIONS) this.#flushTimes(instruments);
  }

  #flushTimes({ operationDuration, processDuration }: Instruments): void {
    recordAll(this.#operationTimes, operationDuration);
    recordAll(this.#processTimes, processDuration);
    this.#waitingTimes = 0;
  }

  #flush(instruments: Instruments): void {
    const { sentMessages, consumedMessages } = instruments;
    this.#flushTimes(instruments);
    for (const [attributes, count] of this.#sent) sentMessages.add(count, attributes);
    for (const [attributes, count] of this.#consumed) consumedMessages.add(count, attributes);
    this.#sent.clear();
    this.#consumed.clear();
  }

  #current(): Instruments {
    const provider = this.#given ?? metrics.getMeterProvider();
    if (this.#instruments && provider === this.#provider) return this.#instruments;
    const instruments = createInstruments(provider.getMeter(SCOPE), () => {
      if (this.#instruments === instruments) this.#flush(instruments);
    });
    this.#provider = provider;
    this.#instruments = instruments;
    return instruments;
  }
}

/** The series stay known, but no more of them than a bounded number. */
function recordAll(times: Map<Attributes, number[]>, histogram: Histogram): void {
  for (const [attributes, waiting] of times) {
    for (const seconds of waiting) histogram.record(seconds, attributes);
    waiting.length = 0;
  }
  if (times.size > MAX_WAITING) times.clear();
}

function createInstruments(meter: Meter, onCollect: () => void): Instruments {
  const { operationDuration, processDuration, sentMessages, consumedMessages } = METRICS;
  // The callbacks of a meter run before its counters are read. This instrument observes nothing, so it is never exported.
  meter.createObservableGauge(`${SCOPE}.collection`).addCallback(onCollect);
  const advice = { explicitBucketBoundaries: [...DURATION_BUCKETS] };
  return {
    operationDuration: meter.createHistogram(operationDuration.name, { ...operationDuration, advice }),
    processDuration: meter.createHistogram(processDuration.name, { ...processDuration, advice }),
    sentMessages: meter.createCounter(sentMessages.name, sentMessages),
    consumedMessages: meter.createCounter(consumedMessages.name, consumedMessages),
  };
}
