import { Catch, HttpException, Inject, Logger } from '@nestjs/common';
import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { RedisStreamsError } from 'nestjs-redis-streams';
import type { Failure } from './api.js';
import { setConsoleHeaders } from './security/headers.guard.js';
import type { AnyResponse } from './security/headers.guard.js';

/** By the code of the error; others are 502: Redis has answered something that the console cannot work with. */
const STATUS: Readonly<Record<string, number>> = {
  ERR_INVALID_OPTION: 400,
  ERR_GROUP_MISSING: 404,
  ERR_STREAM_MISSING: 404,
  ERR_WRONG_TYPE: 409,
  ERR_UNSUPPORTED_OPERATION: 501,
  ERR_CONNECTION: 503,
  ERR_CONNECT_TIMEOUT: 503,
  ERR_CLOSED: 503,
};

/** Whether an error is a fault of the console itself, whose details belong into the log and not to viewers. */
export function isOwnFault(error: unknown): boolean {
  return !(error instanceof RedisStreamsError || error instanceof HttpException);
}

/** An error as viewers see it. */
export function failureOf(error: unknown): Failure {
  if (error instanceof RedisStreamsError) return { message: error.message, code: error.code };
  if (error instanceof HttpException) return { message: messageOf(error), code: null };
  return { message: 'The console failed; its log has the reason', code: null };
}

function messageOf(error: HttpException): string {
  const response = error.getResponse();
  const { message } = typeof response === 'string' ? { message: response } : (response as { message?: unknown });
  return Array.isArray(message) ? message.join('; ') : typeof message === 'string' ? message : error.message;
}

/** Answers requests that failed with a {@link Failure}, whatever filters the application has. */
@Catch()
export class ConsoleFailureFilter implements ExceptionFilter {
  readonly #logger = new Logger('RedisStreamsConsole');
  readonly #host: HttpAdapterHost;

  constructor(@Inject(HttpAdapterHost) host: HttpAdapterHost) {
    this.#host = host;
  }

  catch(error: unknown, host: ArgumentsHost): void {
    const { httpAdapter } = this.#host;
    const response = host.switchToHttp().getResponse<AnyResponse>();
    if (httpAdapter.isHeadersSent(response)) return httpAdapter.end(response);
    setConsoleHeaders(response);
    const failure = failureOf(error);
    if (isOwnFault(error)) this.#logger.error(error);
    httpAdapter.reply(response, failure, statusOf(error));
  }
}

/** The status of the answer to a request that failed. */
export function statusOf(error: unknown): number {
  if (error instanceof HttpException) return error.getStatus();
  return error instanceof RedisStreamsError ? (STATUS[error.code] ?? 502) : 500;
}
