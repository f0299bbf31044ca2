import { Controller, Injectable } from '@nestjs/common';
import { MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import { NEVER, from, of } from 'rxjs';
import type { Observable } from 'rxjs';

export interface PriceQuery {
  readonly product: string;
}

const PRICES: Readonly<Record<string, readonly number[]>> = { tea: [3, 4, 5], salt: [1] };

@Injectable()
export class Prices {
  /** Stands for a database. */
  of(product: string): readonly number[] {
    const prices = PRICES[product];
    // What the exception carries is what the client is told; of any other error it only learns that there was one.
    if (!prices) throw new RpcException({ code: 'UNKNOWN_PRODUCT', product });
    return prices;
  }
}

@Controller()
export class CatalogController {
  constructor(private readonly prices: Prices) {}

  /** One answer. */
  @MessagePattern('price')
  price(@Payload() { product }: PriceQuery): number | undefined {
    return this.prices.of(product).at(-1);
  }

  /** Many answers: each value of the Observable is sent as it comes. */
  @MessagePattern('price-history')
  history(@Payload() { product }: PriceQuery): Observable<number> {
    return from(this.prices.of(product));
  }

  /** Never answers, except about tea. */
  @MessagePattern('forecast')
  forecast(@Payload() { product }: PriceQuery): Observable<number> {
    return product === 'tea' ? of(6) : NEVER;
  }
}
