// What the documents show of @nestjs/bullmq, which is not installed here.
import type { Job, WorkerOptions } from 'bullmq';

export declare function InjectQueue(name: string): ParameterDecorator;
export declare function Processor(name: string, options?: Omit<WorkerOptions, 'connection'>): ClassDecorator;
export declare abstract class WorkerHost {
  abstract process(job: Job, token?: string): Promise<unknown>;
}
