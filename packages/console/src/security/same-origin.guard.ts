import { ForbiddenException, Injectable } from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';

/** A header that no page of another site can send without asking first, which the console never permits. */
const OWN_HEADER = 'x-nrs-console';

interface CheckedRequest {
  readonly method: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/**
 * Refuses what the pages of another site send. A change needs the header of the console, a body of JSON, and an origin that is the
 * console's own; a read is refused only where the browser says that another site asks.
 */
@Injectable()
export class SameOriginGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { method, headers } = context.switchToHttp().getRequest<CheckedRequest>();
    const problem = method === 'GET' || method === 'HEAD' ? problemOfRead(headers) : problemOfChange(headers);
    if (problem !== undefined) throw new ForbiddenException(problem);
    return true;
  }
}

type Headers = CheckedRequest['headers'];

function problemOfRead({ 'sec-fetch-site': site }: Headers): string | undefined {
  return site === undefined || site === 'same-origin' || site === 'none'
    ? undefined
    : 'Only pages of the console may ask for this';
}

function problemOfChange(headers: Headers): string | undefined {
  if (headers[OWN_HEADER] !== '1') return `A change needs the header '${OWN_HEADER}: 1'`;
  const type = String(headers['content-type'] ?? '');
  if (!/^application\/json(?:\s*;|$)/i.test(type)) return "A change needs the header 'content-type: application/json'";
  return isSameOrigin(headers) ? undefined : 'Only pages of the console may change anything';
}

/** Browsers say where a request comes from in `sec-fetch-site`, over plain HTTP to other machines in `origin` only. */
function isSameOrigin({ 'sec-fetch-site': site, origin, host }: Headers): boolean {
  if (site !== undefined) return site === 'same-origin';
  if (typeof origin !== 'string' || typeof host !== 'string' || !URL.canParse(origin)) return false;
  return new URL(origin).host === hostOf(new URL(origin).protocol, host);
}

/** As `URL` writes it: without the port that the protocol has by default. */
function hostOf(protocol: string, host: string): string | undefined {
  const url = `${protocol}//${host}`;
  return URL.canParse(url) ? new URL(url).host : undefined;
}
