/** What the gateway writes to the stream `orders`, and every service reads from it. */
export interface Order {
  readonly id: string;
  readonly item: string;
  readonly quantity: number;
  /** When the HTTP request came in, in milliseconds since 1970. */
  readonly placedAt: number;
}

/** Keeps the shop's streams apart from others on the same server. */
export const keyPrefix = process.env['SHOP_KEY_PREFIX'] ?? 'shop:';

/** The name of this process: distinct for each one that runs, and the same again after a restart. */
export const instance = process.env['INSTANCE'] ?? `instance-${process.pid}`;

/** One line of JSON for each thing that happened. The driver counts these lines; a person can read them, too. */
export function log(event: string, details: Record<string, unknown> = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
}
