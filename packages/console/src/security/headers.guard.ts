import { Injectable } from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';

const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

/** Keep browsers from what the console does not need. */
const HEADERS = Object.freeze({
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
});

interface HeaderTarget {
  setHeader(name: string, value: string): unknown;
}

/** Of Node or Express, or of Fastify. */
export type AnyResponse = HeaderTarget | { readonly raw: HeaderTarget; header(name: string, value: string): unknown };

export function setConsoleHeaders(response: AnyResponse): void {
  for (const [name, value] of Object.entries(HEADERS)) {
    if ('raw' in response) {
      // Fastify keeps headers of its own: an event stream does not have them, and other answers have them instead of those of Node.
      response.raw.setHeader(name, value);
      response.header(name, value);
    } else {
      response.setHeader(name, value);
    }
  }
}

/**
 * Admits every request, and gives its answer the headers of the console. As the first guard of the controllers, it runs before all that
 * the console itself may refuse. What the global guards of the application refuse gets the headers from the filter of the console,
 * where that is data; what the application answers before any controller does not have them: its middleware, a body that cannot be
 * parsed, a path that no route has.
 */
@Injectable()
export class ConsoleHeadersGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    setConsoleHeaders(context.switchToHttp().getResponse<AnyResponse>());
    return true;
  }
}
