import { Get, Inject, NotFoundException, Param, Req, Res, StreamableFile } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { WEB_FOLDER } from '../../package-files.cjs';
import { PAGES } from '../api.js';
import { PageFiles } from './page-files.js';
import type { PageFile } from './page-files.js';

/** Nest takes one slash off the end. To Fastify, a path with a slash at its end is another than that without. */
const INDEX_ROUTES = ['/', '//'];
const INDEX = 'index.html';
const FOREVER = 'public, max-age=31536000, immutable';

interface PageRequest {
  /** Of Express and Fastify: with the prefix, and with what a router in front of this one has taken off. */
  readonly originalUrl: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** The pages of the console. All paths in them are relative, so that they work under every prefix and behind every proxy. */
export class PagesController {
  readonly #files = new PageFiles(WEB_FOLDER);
  readonly #host: HttpAdapterHost;

  constructor(@Inject(HttpAdapterHost) host: HttpAdapterHost) {
    this.#host = host;
  }

  /** Without the slash at its end, the paths in the page would begin one level too high. */
  @Get(INDEX_ROUTES)
  index(@Req() request: PageRequest, @Res() response: unknown): void {
    const [path = '', query] = request.originalUrl.split('?', 2);
    if (path.endsWith('/')) return this.#page(request, response);
    const folder = `${path.slice(path.lastIndexOf('/') + 1)}/`;
    this.#host.httpAdapter.redirect(response, 302, query === undefined ? folder : `${folder}?${query}`);
  }

  @Get(':page')
  page(@Param('page') page: string, @Req() request: PageRequest, @Res() response: unknown): void {
    if (!PAGES.some((known) => known === page)) throw new NotFoundException();
    this.#page(request, response);
  }

  @Get('assets/:file')
  asset(@Param('file') name: string, @Req() request: PageRequest, @Res() response: unknown): void {
    const file = name === INDEX ? undefined : this.#files.find(name);
    if (!file) throw new NotFoundException();
    this.#send(file, FOREVER, request, response);
  }

  #page(request: PageRequest, response: unknown): void {
    const file = this.#files.find(INDEX);
    if (!file)
      throw new NotFoundException(`The pages of the console are not in ${WEB_FOLDER}; is it a bundle without them?`);
    this.#send(file, undefined, request, response);
  }

  #send(
    { type, plain, compressed }: PageFile,
    caching: string | undefined,
    request: PageRequest,
    response: unknown,
  ): void {
    const { httpAdapter } = this.#host;
    const isCompressed = /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''));
    const headers = {
      'content-type': type,
      vary: 'accept-encoding',
      ...(caching !== undefined && { 'cache-control': caching }),
      ...(isCompressed && { 'content-encoding': 'gzip' }),
    };
    for (const [name, value] of Object.entries(headers)) httpAdapter.setHeader(response, name, value);
    const body = isCompressed ? compressed : plain;
    httpAdapter.reply(response, new StreamableFile(body, { type, length: body.length }), 200);
  }
}
