import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

import type { GroupRow, ShardRow, StreamUpdate } from '../../src/api.js';
import {
  formatBytes,
  formatCount,
  formatRate,
  formatSeconds,
  notedRates,
  noteRates,
  UNKNOWN,
} from '../data/figures.js';
import { useLive } from '../data/live.js';
import { href } from '../data/router.js';
import type { PageName } from '../data/router.js';
import { timeOfId } from '../data/time.js';
import { CopyButton } from '../ui/copy.js';
import { Facts, Heading } from '../ui/heading.js';
import { State } from '../ui/lag.js';
import { AllStreamsLink, Empty, FailureBox } from '../ui/notices.js';
import { Sparkline } from '../ui/sparkline.js';
import { Table } from '../ui/table.js';
import type { Column } from '../ui/table.js';
import { Age } from '../ui/time.js';
import { DeadLettersTab } from './dead-letters.js';
import { DelayedTab } from './delayed.js';
import { MessagesTab } from './messages.js';

const TABS = [
  ['stream', 'Groups'],
  ['messages', 'Messages'],
  ['dead-letters', 'Dead letters'],
  ['delayed', 'Delayed'],
  ['shards', 'Shards'],
] as const satisfies ReadonlyArray<readonly [PageName, string]>;

export type StreamTab = (typeof TABS)[number][0];

/** One page with tabs: the live figures stay when another tab is opened. */
export function StreamPage({ stream, tab }: { stream: string; tab: StreamTab }): JSX.Element {
  const { data, failure } = useLive({ page: 'stream', stream });
  const row = data?.row ?? null;
  if (data && row) noteRates([row], data.at);
  const tabs = useRef<HTMLElement>(null);
  // On a phone some of them are beyond the edge.
  useEffect(
    () => tabs.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' }),
    [tab],
  );
  return (
    <>
      <Heading
        title={stream}
        crumbs={[{ label: 'Streams', href: href('streams') }]}
        aside={<CopyButton text={stream} of="the name" />}
      />
      <Facts
        facts={[
          ['Entries', row ? formatCount(row.length) : UNKNOWN],
          [
            'Rate',
            <span class="rate-figure">
              {row ? formatRate(row.rate) : UNKNOWN} <Sparkline values={notedRates(stream)} />
            </span>,
          ],
          ['Memory', row ? formatBytes(row.memory) : UNKNOWN],
          ['Oldest entry', data?.firstId ? <Age at={timeOfId(data.firstId)} /> : UNKNOWN],
          ['Newest entry', data?.lastId ? <Age at={timeOfId(data.lastId)} /> : UNKNOWN],
        ]}
      />
      <nav ref={tabs} class="tabs" aria-label="Parts of the stream">
        {TABS.map(([page, label]) => (
          <a key={page} href={href(page, { stream })} aria-current={page === tab ? 'page' : undefined}>
            {label}
            <TabCount page={page} data={data} />
          </a>
        ))}
      </nav>
      {failure && <FailureBox failure={failure} />}
      {data && !row && tab !== 'dead-letters' ? (
        <NoStream stream={stream} />
      ) : (
        <Tab stream={stream} tab={tab} data={data} />
      )}
    </>
  );
}

function TabCount({ page, data }: { page: StreamTab; data: StreamUpdate | null }): JSX.Element | null {
  if (!data?.row) return null;
  if (page === 'stream') return <span class="count">{formatCount(data.row.groups.length)}</span>;
  if (page === 'shards') return <span class="count">{formatCount(data.shards.length)}</span>;
  if (page !== 'dead-letters') return null;
  const { deadLetters } = data.row;
  return <span class={`count ${deadLetters ? 'bad' : ''}`}>{formatCount(deadLetters)}</span>;
}

interface TabProps {
  readonly stream: string;
  readonly tab: StreamTab;
  readonly data: StreamUpdate | null;
}

function Tab({ stream, tab, data }: TabProps): JSX.Element {
  switch (tab) {
    case 'messages':
      return <MessagesTab stream={stream} lastId={data?.lastId ?? null} />;
    case 'dead-letters':
      return <DeadLettersTab stream={stream} />;
    case 'delayed':
      return <DelayedTab stream={stream} />;
    case 'shards':
      return <ShardsTab data={data} />;
    case 'stream':
      return <GroupsTab stream={stream} data={data} />;
  }
}

function NoStream({ stream }: { stream: string }): JSX.Element {
  return (
    <Empty title="There is no such stream">
      <p>
        No stream is called <code>{stream}</code>, or it was deleted, or the option <code>streams</code> of the console
        leaves it out. It appears here by itself when its first message is sent.
      </p>
      <p>
        <AllStreamsLink />
      </p>
    </Empty>
  );
}

function GroupsTab({ stream, data }: { stream: string; data: StreamUpdate | null }): JSX.Element {
  const groups = data?.row && [...data.row.groups].sort((a, b) => a.name.localeCompare(b.name));
  if (groups?.length === 0) {
    return (
      <Empty title="No consumer group reads this stream">
        <p>
          A group appears here when a service with the option <code>group</code> listens to it. Until then the messages
          are stored, and no consumer handles them.
        </p>
      </Empty>
    );
  }
  const columns: ReadonlyArray<Column<GroupRow>> = [
    {
      key: 'name',
      label: 'Group',
      render: ({ name }) => (
        <a class="title" href={href('group', { stream, group: name })}>
          {name}
        </a>
      ),
    },
    { key: 'state', label: 'State', width: '9rem', render: (group) => <State group={group} /> },
    {
      key: 'lag',
      label: 'Lag',
      width: '9rem',
      isFigure: true,
      render: ({ lag }) => <span class="loud">{formatCount(lag)}</span>,
    },
    {
      key: 'seconds',
      label: 'Oldest waits',
      width: '9rem',
      isFigure: true,
      render: ({ lagSeconds }) => (lagSeconds === 0 ? <span class="faint">0 s</span> : formatSeconds(lagSeconds)),
    },
    { key: 'pending', label: 'Pending', width: '7rem', isFigure: true, render: ({ pending }) => formatCount(pending) },
    {
      key: 'consumers',
      label: 'Consumers',
      width: '7rem',
      isFigure: true,
      render: ({ consumers }) => formatCount(consumers),
    },
  ];
  return (
    <Table
      caption={`Groups of ${stream}`}
      class="groups"
      columns={columns}
      rows={groups ?? null}
      rowKey={({ name }) => name}
      skeletons={3}
    />
  );
}

function ShardsTab({ data }: { data: StreamUpdate | null }): JSX.Element {
  const longest = Math.max(1, ...(data?.shards ?? []).map(({ length }) => length));
  const columns: ReadonlyArray<Column<ShardRow>> = [
    { key: 'shard', label: 'Shard', width: '5rem', render: ({ shard }) => shard },
    { key: 'key', label: 'Key', render: ({ key }) => <span class="mono">{key}</span> },
    {
      key: 'length',
      label: 'Entries',
      width: '14rem',
      isFigure: true,
      render: ({ length }) => (
        <span class="bar-figure">
          <svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
            <rect width="100" height="6" class="track" />
            <rect width={(100 * length) / longest} height="6" />
          </svg>
          <span>{formatCount(length)}</span>
        </span>
      ),
    },
    { key: 'memory', label: 'Memory', width: '7rem', isFigure: true, render: ({ memory }) => formatBytes(memory) },
    {
      key: 'first',
      label: 'Oldest entry',
      width: '10rem',
      isFigure: true,
      render: ({ firstId }) => (firstId ? <Age at={timeOfId(firstId)} /> : UNKNOWN),
    },
    {
      key: 'last',
      label: 'Newest entry',
      width: '10rem',
      isFigure: true,
      render: ({ lastId }) => (lastId ? <Age at={timeOfId(lastId)} /> : UNKNOWN),
    },
  ];
  return (
    <>
      <Table
        caption="Shards"
        class="shards"
        columns={columns}
        rows={data ? data.shards : null}
        rowKey={({ key }) => key}
        skeletons={1}
      />
      {data?.shards.length === 1 && (
        <p class="note outside">
          The stream has one shard. With the option <code>shards</code> of its producers it is spread over two keys or
          more, for more throughput with messages of one key still in order.
        </p>
      )}
    </>
  );
}
