import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';

import { contentsOf } from '../../docs/.vitepress/contents.js';
import { slug } from '../../docs/.vitepress/slug.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import { SERVER_DEFAULTS } from '../../lib/nest/redis-streams.options.js';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const DOCUMENTS = ['README.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith('.md'),
);
const PUBLIC_API = join(ROOT, 'lib/index.ts');
const CONSOLE_API = join(ROOT, 'packages/console/src/index.ts');
/** Entry points whose options are in tables, too. */
const ENTRY_POINTS = [PUBLIC_API, join(ROOT, 'lib/prometheus.ts'), CONSOLE_API];

/** A code block, at the line of its document where it begins. */
interface Snippet {
  readonly title: string;
  readonly file: string;
  readonly text: string;
}

const read = (document: string): string => readFileSync(join(ROOT, document), 'utf8');

function snippetsOf(document: string): Snippet[] {
  const text = read(document);
  return [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(({ 1: code = '', index }) => {
    const line = text.slice(0, index).split('\n').length;
    return { title: `${document}:${line}`, file: join(ROOT, `${document}.${line}.ts`), text: code };
  });
}

const snippets = DOCUMENTS.flatMap(snippetsOf);
const program = compile(snippets);

/** The snippets as files that exist in memory only, with this package under the name by which readers import it. */
function compile(files: readonly Snippet[]): ts.Program {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, ROOT);
  const paths = {
    'nestjs-redis-streams': [PUBLIC_API],
    'nestjs-redis-streams/engine': [join(ROOT, 'lib/engine.ts')],
    'nestjs-redis-streams/file': [join(ROOT, 'lib/file.ts')],
    'nestjs-redis-streams/prometheus': [join(ROOT, 'lib/prometheus.ts')],
    'nestjs-redis-streams/terminus': [join(ROOT, 'lib/terminus.ts')],
    'nestjs-redis-streams/opentelemetry': [join(ROOT, 'lib/opentelemetry.ts')],
    'nestjs-redis-streams/testing': [join(ROOT, 'lib/testing.ts')],
    'nestjs-redis-streams-console': [CONSOLE_API],
    '@nestjs/bullmq': [join(ROOT, 'test/types/nestjs-bullmq.d.ts')],
  };
  const host = ts.createCompilerHost({ ...options, paths });
  const inMemory = new Map(files.map(({ file, text }) => [file, text]));
  const onDisk = { fileExists: host.fileExists.bind(host), readFile: host.readFile.bind(host) };
  host.fileExists = (path) => inMemory.has(path) || onDisk.fileExists(path);
  host.readFile = (path) => inMemory.get(path) ?? onDisk.readFile(path);
  return ts.createProgram([...ENTRY_POINTS, ...inMemory.keys()], { ...options, paths }, host);
}

function complaints({ file, title }: Snippet): string[] {
  const source = program.getSourceFile(file);
  return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
    ({ start, messageText }) => {
      const line = source && start !== undefined ? source.getLineAndCharacterOfPosition(start).line + 1 : 0;
      return `${title}, line ${line} of the block: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    },
  );
}

/** The properties of an exported interface or class. */
function propertiesOf(name: string): ts.Symbol[] {
  const checker = program.getTypeChecker();
  const symbol = ENTRY_POINTS.flatMap((path) => {
    const api = program.getSourceFile(path);
    const module = api && checker.getSymbolAtLocation(api);
    return module ? checker.getExportsOfModule(module) : [];
  }).find((exported) => exported.name === name);
  if (!symbol) throw new Error(`${name} is not exported`);
  return checker.getDeclaredTypeOfSymbol(checker.getAliasedSymbol(symbol)).getProperties();
}

function optionsOf(name: string): string[] {
  return propertiesOf(name).map((property) => property.name);
}

/** The public methods and getters that a class of this package declares itself. */
function methodsOf(name: string): string[] {
  return propertiesOf(name).flatMap(({ name: method, valueDeclaration: node }) => {
    const isOurs = node && node.getSourceFile().fileName.startsWith(join(ROOT, 'lib'));
    if (!isOurs || !(ts.isMethodDeclaration(node) || ts.isGetAccessor(node))) return [];
    const isHidden = ts.isPrivateIdentifier(node.name) || ts.getJSDocTags(node).some(({ tagName }) => tagName.text === 'internal'); // prettier-ignore
    return isHidden || ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Protected ? [] : [method];
  });
}

describe('code in the documents', () => {
  it.each(snippets)('$title compiles', (snippet) => {
    expect(complaints(snippet)).toEqual([]);
  });
});

/** Its tables have the defaults of a server or client where these differ from those of the engine. */
const OF_TRANSPORT = new Set(['RedisStreamsCommonOptions', 'ServerRedisStreamsOptions', 'ClientRedisStreamsOptions']);

/** A default that is one value, `16` or `` `rolling` ``, and no words about several. */
function isPlain(text: string): boolean {
  return /^(?:`[\w:-]+`|[\d,]+)$/.test(text);
}

function plain(text: string): string {
  return text.replaceAll(/[`,]/g, '');
}

describe('tables of options', () => {
  const marker = /<!-- options: (\w+)(?: without (\w+))? -->\n\n((?:\|.*\n)+)/g;
  const tables = DOCUMENTS.flatMap((document) =>
    [...read(document).matchAll(marker)].map(([, name = '', without, table = '']) => ({ name, without, table })),
  );

  it.each(tables)('the table of $name has every option, and no other', ({ name, without, table }) => {
    const others = new Set(without === undefined ? [] : optionsOf(without));
    const expected = optionsOf(name).filter((option) => !others.has(option));
    const documented = [...table.matchAll(/^\| `(\w+)`/gm)].map(([, option]) => option);

    expect(new Set(documented)).toEqual(new Set(expected));
  });

  it('name the defaults that the code has', () => {
    const { streamer, producer, consumer } = DEFAULTS;
    const engine = { ...streamer, ...producer, ...consumer };
    // `undefined` where the code has no default, and the modes of the transport choose one.
    const transport = { ...engine, ...SERVER_DEFAULTS, autoStreamReset: undefined };
    const wrong = DOCUMENTS.flatMap((document) =>
      [...read(document).matchAll(marker)].flatMap(([, name = '', , table = '']) => {
        const defaults: Readonly<Record<string, unknown>> = OF_TRANSPORT.has(name) ? transport : engine;
        return [...table.matchAll(/^\| `(\w+)` *\| ([^|]*?) *\|/gm)]
          .filter(([, option = '', text = '']) => isPlain(text) && defaults[option] !== undefined)
          .map(([, option = '', text = '']) => ({ option, documented: plain(text), coded: String(defaults[option]) }))
          .filter(({ documented, coded }) => documented !== coded);
      }),
    );

    expect(wrong).toEqual([]);
  });
});

describe('tables of methods', () => {
  it.each(['RedisStreamsContext', 'RedisStreamsRecordBuilder', 'ClientRedisStreams', 'ServerRedisStreams'])(
    'the reference has every method of %s',
    (name) => {
      const [, methods = ''] = read('docs/reference.md').split('\n## Methods\n');
      expect(methods).toContain(`of \`${name}\``);
      const named = new Set([...methods.matchAll(/`(\w+)(?:\([^)]*\))?`/g)].map(([, method]) => method));
      expect(methodsOf(name).length).toBeGreaterThan(5);
      expect(methodsOf(name).filter((method) => !named.has(method))).toEqual([]);
    },
  );
});

describe('docs/README.md', () => {
  it('lists every page, and no other', () => {
    expect(contentsOf(join(ROOT, 'docs'))).not.toEqual([]);
  });
});

describe('each page', () => {
  it.each(DOCUMENTS.filter((name) => !name.endsWith('README.md')))(
    '%s begins with when to use it, and what it gives',
    (document) => {
      expect(read(document)).toMatch(/^# .+\n\n_Use this when_ [^]+?\n\n_You get_ /);
    },
  );
});

describe('paths in the documents', () => {
  const repository = /https:\/\/github\.com\/nestjs-redis-streams\/nestjs-redis-streams\/blob\/main\/([^)#\s]+)/g;
  // A call in a program, such as `handlers[stream](payload)`, is no link.
  const withoutCode = (document: string): string => read(document).replace(/^```.*?^```$/gms, '');
  const links = DOCUMENTS.flatMap((document) => {
    const text = withoutCode(document);
    const relatives = Array.from(text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g), ([, target = '']) =>
      relative(ROOT, join(ROOT, dirname(document), target)),
    );
    const absolutes = Array.from(text.matchAll(repository), ([, target = '']) => target);
    return [...relatives, ...absolutes].map((target) => ({ document, target }));
  });

  it('of README.md are absolute, because npm shows it too', () => {
    expect(read('README.md')).not.toMatch(/\]\((?!https?:|#)|^\[[\w-]+\]:(?!\s+https:)/m);
  });

  it('of README.md by name are all defined, and used', () => {
    const text = read('README.md');
    const defined = new Set(Array.from(text.matchAll(/^\[([\w-]+)\]:\s/gm), ([, name = '']) => name));
    const used = new Set(Array.from(text.matchAll(/\]\[([\w-]+)\]/g), ([, name = '']) => name));
    expect(used).toEqual(defined);
  });

  it.each(links)('$document links to $target, which exists', ({ target }) => {
    expect(ts.sys.fileExists(join(ROOT, target)) || ts.sys.directoryExists(join(ROOT, target))).toBe(true);
  });

  it.each(DOCUMENTS)('%s links only to headings that exist', (document) => {
    const anchorsOf = (page: string): string[] =>
      Array.from(withoutCode(page).matchAll(/^#+ (.*)$/gm), ([, heading = '']) => slug(heading));
    const targets = [...withoutCode(document).matchAll(/\]\((?!https?:)([^)#\s]*)#([\w-]+)\)/g)].map(
      ([, page = '', anchor = '']) => ({ page: page === '' ? document : join(dirname(document), page), anchor }),
    );
    expect(targets.filter(({ page, anchor }) => !anchorsOf(page).includes(anchor))).toEqual([]);
  });

  it.each(DOCUMENTS)('%s names only files of lib/ that exist', (document) => {
    const named = [...read(document).matchAll(/`(lib\/[\w./-]+\.ts)`/g)].map(([, path = '']) => path);
    expect(named.filter((path) => !ts.sys.fileExists(join(ROOT, path)))).toEqual([]);
  });
});

/** The tests to which a text links, each by its file and its title. */
const testsOf = (text: string): Array<{ file: string; title: string }> =>
  Array.from(text.matchAll(/\]\(\.\.\/(test\/\S+) ["'](.*?)["']\)/g), ([, file = '', title = '']) => ({ file, title }));
const testsIn = (document: string): Array<{ document: string; file: string; title: string }> =>
  testsOf(read(document)).map((test) => ({ document, ...test }));

describe('the guarantees, and what holds beside sea-streamer,', () => {
  const named = testsIn('docs/guarantees.md');

  it.each([...named, ...testsIn('docs/sea-streamer.md')])(
    "have the test '$title' in $file ($document)",
    ({ file, title }) => {
      expect(read(file)).toContain(title);
    },
  );

  it('have a test each', () => {
    const [, list = ''] = read('docs/guarantees.md').split('\n## How it is proven\n');
    const guarantees = list.split(/^- /m).slice(1);
    expect(guarantees.length).toBeGreaterThan(100);
    expect(guarantees.filter((guarantee) => testsOf(guarantee).length === 0)).toEqual([]);
  });
});

describe('docs/architecture.md', () => {
  const text = read('docs/architecture.md');
  const sources = ['lib', 'packages/console/src'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `${folder}/${name}`),
  );
  const code = sources.map(read).join('\n');
  const quoted = [...new Set(Array.from(text.matchAll(/`([^`\n]+)`/g), ([, word = '']) => word))];

  it('names files that exist', () => {
    const files = quoted.filter((word) => /^[\w./-]+\.(?:ts|js)$/.test(word));
    const isThere = (file: string): boolean =>
      existsSync(join(ROOT, file)) || sources.some((source) => source.endsWith(`/${file}`));
    expect(files).toContain('take-over.ts');
    expect(files.filter((file) => !isThere(file))).toEqual([]);
  });

  it('names classes and members that exist', () => {
    const names = quoted.filter((word) => /^[A-Z][a-z]\w+(?:\.\w+)?$/.test(word) && word !== 'Symbol.for');
    const isThere = (name: string): boolean => {
      const [owner, member] = name.split('.');
      const isDeclared = new RegExp(`\\b(?:class|interface) ${owner}\\b`).test(code);
      return isDeclared && (member === undefined || new RegExp(`^ .*\\b${member}\\b`, 'm').test(code));
    };
    expect(names).toContain('Dispatcher');
    expect(names.filter((name) => !isThere(name))).toEqual([]);
  });
});
