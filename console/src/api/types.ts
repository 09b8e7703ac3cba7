import type { components } from "./schema";

export type Schema = components["schemas"];
export type Job = Schema["Job"];
export type ListedJob = Schema["ListedJob"];
export type Attempt = Schema["Attempt"];
export type Node = Schema["Node"];
export type ApiEvent = Schema["Event"];
export type QueuedJob = Schema["QueuedJob"];
export type WhatIf = Schema["WhatIf"];
export type Fault = Schema["Fault"];
export type Project = Schema["Project"];
export type Me = Schema["Me"];
export type Problem = Schema["Problem"];
export type Eta = Schema["Eta"];
