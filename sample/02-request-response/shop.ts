import { Injectable } from '@nestjs/common';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';

import { ClientRedisStreams, InjectRedisStreams, RequestTimeoutError } from '../../lib/index.js';
import type { PriceQuery } from './catalog.js';

/** Sends requests to the catalog. As with any Nest client, a request is sent when its Observable is subscribed to. */
@Injectable()
export class Shop {
  constructor(@InjectRedisStreams() private readonly client: ClientRedisStreams) {}

  price(product: string): Promise<number> {
    return firstValueFrom(this.client.send<number, PriceQuery>('price', { product }));
  }

  history(product: string): Promise<number[]> {
    return lastValueFrom(this.client.send<number, PriceQuery>('price-history', { product }).pipe(toArray()));
  }

  /** Undefined when no reply arrives within `requestTimeout`. */
  async forecast(product: string): Promise<number | undefined> {
    try {
      return await firstValueFrom(this.client.send<number, PriceQuery>('forecast', { product }));
    } catch (error) {
      if (error instanceof RequestTimeoutError) return undefined;
      throw error;
    }
  }

  /** No server has a handler for this pattern, so the request fails at once instead of timing out. */
  discount(product: string): Promise<number> {
    return firstValueFrom(this.client.send<number, PriceQuery>('discount', { product }));
  }
}
