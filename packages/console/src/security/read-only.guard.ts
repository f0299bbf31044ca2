import { ForbiddenException } from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import type { ResolvedConsoleOptions } from '../console.options.js';

/** Refuses every change where the console is read-only. */
export class ReadOnlyGuard implements CanActivate {
  readonly #options: Pick<ResolvedConsoleOptions, 'readOnly'>;

  constructor(options: Pick<ResolvedConsoleOptions, 'readOnly'>) {
    this.#options = options;
  }

  canActivate(context: ExecutionContext): boolean {
    const { method } = context.switchToHttp().getRequest<{ method: string }>();
    if (method === 'GET' || method === 'HEAD' || !this.#options.readOnly) return true;
    throw new ForbiddenException('The console is read-only; the option readOnly: false permits changes');
  }
}
