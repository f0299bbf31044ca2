/** The message that the gateway writes to the stream `orders` and every service reads. */
export interface Order {
  readonly id: string;
  readonly item: string;
  readonly quantity: number;
  /** Time of the HTTP request, in milliseconds since 1970. */
  readonly placedAt: number;
}

/** Separates the shop's streams from others on the same server. */
export const keyPrefix = process.env['SHOP_KEY_PREFIX'] ?? 'shop:';

/** The name of this process: unique among those that run, and the same after a restart. */
export const instance = process.env['INSTANCE'] ?? `instance-${process.pid}`;

/** Logs an event as one line of JSON. The driver counts these lines. */
export function log(event: string, details: Record<string, unknown> = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
}
