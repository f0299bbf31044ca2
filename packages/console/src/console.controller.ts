import { Controller, UseFilters, UseGuards, VERSION_NEUTRAL } from '@nestjs/common';
import type { CanActivate, Type } from '@nestjs/common';
import type { ResolvedConsoleOptions } from './console.options.js';
import { ConsoleFailureFilter } from './failures.js';
import { DeadLettersController } from './dead-letters/dead-letters.controller.js';
import { DelayedController } from './delayed/delayed.controller.js';
import { GroupsController } from './groups/groups.controller.js';
import { LiveController } from './live/live.controller.js';
import { MessagesController } from './messages/messages.controller.js';
import { PagesController } from './pages/pages.controller.js';
import { ConsoleHeadersGuard } from './security/headers.guard.js';
import { ReadOnlyGuard } from './security/read-only.guard.js';
import { SameOriginGuard } from './security/same-origin.guard.js';

const API = [LiveController, MessagesController, DeadLettersController, DelayedController, GroupsController] as const;

/** The controllers of one console: the routes of the classes, below the path and behind the guards of the options. */
export function consoleControllers(options: ResolvedConsoleOptions): Type[] {
  const { path } = options;
  const guards = [new ConsoleHeadersGuard(), ...options.guards];
  const ofApi = [...guards, new SameOriginGuard(), new ReadOnlyGuard(options)];
  return [
    // Before the pages, whose last route takes every path that no other has.
    ...API.map((controller) => {
      const mounted = mountedAt(`${path}/api`, ofApi, controller);
      UseFilters(ConsoleFailureFilter)(mounted);
      return mounted;
    }),
    // What guards of the application refuse here is for its own filters, which may lead to a form for the login.
    mountedAt(path, guards, PagesController),
  ];
}

/** A class of its own, because an application may have several consoles. */
function mountedAt(path: string, guards: ReadonlyArray<Type<CanActivate> | CanActivate>, controller: Type): Type {
  const mounted = { [controller.name]: class extends controller {} }[controller.name] as Type;
  Controller({ path, version: VERSION_NEUTRAL })(mounted);
  UseGuards(...guards)(mounted);
  return mounted;
}
