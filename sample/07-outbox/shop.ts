import { streamCatalog } from '../../lib/index.js';

/** The payload of the event `orders.placed`. */
export interface PlacedOrder {
  readonly id: string;
  readonly customer: string;
  /** 1 for the first order of this customer, 2 for the second, and so on. */
  readonly number: number;
  readonly item: string;
}

export interface Events {
  'orders.placed': PlacedOrder;
}

export const events = streamCatalog<Events>();

/** The header with the id of an event, which stays the same when the event is sent or delivered again. */
export const EVENT_ID = 'event-id';

/** Separates the sample's streams from others on the same server. */
export const keyPrefix = process.env['KEY_PREFIX'] ?? 'outbox:';

/** Logs an event as one line of JSON, which the driver reads. */
export function log(event: string, details: Record<string, unknown> = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
}
