import { existsSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import axe from 'axe-core';
import type { AxeResults } from 'axe-core';
import { chromium } from 'playwright-core';
import type { Browser, Page } from 'playwright-core';

/** Of Debian; `apt-get install chromium`. */
const CHROMIUM = '/usr/bin/chromium';
/** Milliseconds for what a page is waited for; a busy machine draws slowly. */
const PAGE_LIMIT = 30_000;
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PICTURES = `${ROOT}docs/images/console/`;
/** Whether the tests make the pictures of the documentation. */
export const MAKES_PICTURES = Boolean(process.env['SCREENSHOTS']);

type Theme = 'light' | 'dark';

export interface PageOptions {
  readonly theme?: Theme;
  /** Of the window. Default 1280. */
  readonly width?: number;
}

/** A browser whose pages note whatever went wrong in them. */
export class TestBrowser implements AsyncDisposable {
  readonly #browser: Browser;
  readonly #closing: Array<() => Promise<void>> = [];

  static async launch(): Promise<TestBrowser> {
    if (!existsSync(CHROMIUM)) throw new Error(`no browser at ${CHROMIUM}; run: apt-get install chromium`);
    const options = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'];
    return new TestBrowser(await chromium.launch({ executablePath: CHROMIUM, args: options, timeout: PAGE_LIMIT }));
  }

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  async open(url: string, { theme = 'light', width = 1_280 }: PageOptions = {}): Promise<TestPage> {
    const context = await this.#browser.newContext({
      viewport: { width, height: 720 },
      colorScheme: theme,
      reducedMotion: 'reduce',
      locale: 'en-GB',
      timezoneId: 'Europe/Berlin',
    });
    this.#closing.push(() => context.close());
    context.setDefaultTimeout(PAGE_LIMIT);
    const opened = new TestPage(await context.newPage());
    await opened.page.goto(url);
    return opened;
  }

  /** Closes all pages, which end their feeds. */
  async closePages(): Promise<void> {
    for (const close of this.#closing.splice(0)) await close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
  }
}

export class TestPage {
  readonly page: Page;
  /** Errors of scripts, of the console (a breach of the Content-Security-Policy is one), and dialogs of scripts. */
  readonly problems: string[] = [];

  constructor(page: Page) {
    this.page = page;
    page.on('pageerror', (error) => this.problems.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') this.problems.push(message.text());
    });
    page.on('dialog', (dialog) => {
      this.problems.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
  }

  /** Waits until the page has the text. */
  async sees(text: string | RegExp): Promise<void> {
    await this.page.getByText(text).first().waitFor();
  }

  async click(role: 'button' | 'link' | 'checkbox' | 'radio', name: string | RegExp): Promise<void> {
    await this.page
      .getByRole(role, { name, exact: typeof name === 'string' })
      .first()
      .click();
  }

  /** What axe finds serious, or worse. */
  async barriers(): Promise<string[]> {
    // Evaluated by the debugger, which the Content-Security-Policy does not bind.
    await this.page.evaluate(axe.source);
    const { violations } = await this.page.evaluate<AxeResults>("axe.run(document, { resultTypes: ['violations'] })");
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
  }

  /** Pixels by which the page is wider than the window. */
  async overflow(): Promise<number> {
    return this.page.evaluate<number>('document.documentElement.scrollWidth - window.innerWidth');
  }

  /** A picture for the documentation, of the window or of the whole page; of another machine, paths of this one would be in the stacks. */
  async picture(name: string, isWhole = false): Promise<void> {
    mkdirSync(PICTURES, { recursive: true });
    await this.page.evaluate(`for (const each of document.querySelectorAll('.stack')) {
      each.textContent = each.textContent.replaceAll(${JSON.stringify(ROOT)}, '/srv/shop/');
    }`);
    await this.page.screenshot({ path: `${PICTURES}${name}.png`, animations: 'disabled', fullPage: isWhole });
  }
}
