import { createNoopMeter, metrics } from '@opentelemetry/api';
import type { Attributes, Counter, Histogram, Meter, MeterProvider } from '@opentelemetry/api';

import { DURATION_BUCKETS, METRICS, SCOPE } from './conventions.js';

/** Sets of attributes whose counts wait for the next collection. */
const MAX_WAITING = 1_000;

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
 * much as a span. The durations of a histogram cannot be summed up, so each is one call.
 */
export class Meters {
  readonly #given: MeterProvider | undefined;
  #provider: MeterProvider | undefined;
  #instruments: Instruments | undefined;
  readonly #sent = new Map<Attributes, number>();
  readonly #consumed = new Map<Attributes, number>();

  constructor(provider: MeterProvider | undefined) {
    this.#given = provider;
  }

  /** Whether there is a provider that does something. */
  get isRegistered(): boolean {
    return metrics.getMeterProvider().getMeter(SCOPE) !== createNoopMeter();
  }

  /** @param milliseconds of a send, a receive or a request */
  operationEnded(milliseconds: number, attributes: Attributes): void {
    this.#current().operationDuration.record(milliseconds / 1_000, attributes);
  }

  /** @param milliseconds of the handlers of a message or a batch */
  processEnded(milliseconds: number, attributes: Attributes): void {
    this.#current().processDuration.record(milliseconds / 1_000, attributes);
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

  #flush({ sentMessages, consumedMessages }: Instruments): void {
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
