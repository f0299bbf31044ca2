import { Controller, Injectable } from '@nestjs/common';
import { Payload, RpcException } from '@nestjs/microservices';
import { NEVER, from, of } from 'rxjs';
import type { Observable } from 'rxjs';

import { StreamMessagePattern } from '../../lib/index.js';

export interface PriceQuery {
  readonly product: string;
}

const PRICES: Readonly<Record<string, readonly number[]>> = { tea: [3, 4, 5], salt: [1] };

@Injectable()
export class Prices {
  /** Represents a database. */
  of(product: string): readonly number[] {
    const prices = PRICES[product];
    // The client gets the content of an RpcException. Of any other error it only gets "Internal server error".
    if (!prices) throw new RpcException({ code: 'UNKNOWN_PRODUCT', product });
    return prices;
  }
}

@Controller()
export class CatalogController {
  constructor(private readonly prices: Prices) {}

  /** One reply. */
  @StreamMessagePattern('price')
  price(@Payload() { product }: PriceQuery): number | undefined {
    return this.prices.of(product).at(-1);
  }

  /** Many replies: each value of the Observable is sent when it is emitted. */
  @StreamMessagePattern('price-history')
  history(@Payload() { product }: PriceQuery): Observable<number> {
    return from(this.prices.of(product));
  }

  /** Answers for tea; for any other product it never does. */
  @StreamMessagePattern('forecast')
  forecast(@Payload() { product }: PriceQuery): Observable<number> {
    return product === 'tea' ? of(6) : NEVER;
  }
}
