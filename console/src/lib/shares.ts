// Shares of projects: what each holds, and what its weight says is due. Pure.
import type { Project } from "@/api/types";

export interface Share {
  gpus: number;
  has: number; // of all GPUs held by top projects
  due: number; // by weight, among all, along the tree
}
export function shareOf(projects: readonly Pick<Project, "name" | "parent" | "weight" | "use">[]): Map<string, Share> {
  const byName = new Map(projects.map((project) => [project.name, project]));
  const children = new Map<string, number>(); // sum of weights below each parent
  for (const project of projects) {
    const parent = project.parent && byName.has(project.parent) ? project.parent : "";
    children.set(parent, (children.get(parent) ?? 0) + project.weight);
  }
  const top = projects.filter((project) => !project.parent || !byName.has(project.parent));
  const held = top.reduce((sum, project) => sum + project.use.gpus, 0);
  const due = (name: string, depth = 0): number => {
    const project = byName.get(name);
    if (!project || depth > 32) return 1;
    const parent = project.parent && byName.has(project.parent) ? project.parent : "";
    const all = children.get(parent) ?? 0;
    return (all > 0 ? project.weight / all : 0) * (parent ? due(parent, depth + 1) : 1);
  };
  return new Map(projects.map((project) => [project.name, { gpus: project.use.gpus, has: held > 0 ? project.use.gpus / held : 0, due: due(project.name) }]));
}

/** Children below their parents, each once; whoever's parent is not there, or goes round in a ring, stands at the top. */
export function treeOrder<T extends { name: string; parent: string | null }>(projects: readonly T[]): { project: T; depth: number }[] {
  const names = new Set(projects.map((project) => project.name));
  const children = new Map<string | null, T[]>();
  for (const project of projects) {
    const parent = project.parent !== null && names.has(project.parent) ? project.parent : null;
    const of = children.get(parent);
    if (of) of.push(project);
    else children.set(parent, [project]);
  }
  const out: { project: T; depth: number }[] = [];
  const seen = new Set<string>();
  const walk = (project: T, depth: number) => {
    if (seen.has(project.name)) return;
    seen.add(project.name);
    out.push({ project, depth });
    for (const child of children.get(project.name) ?? []) walk(child, depth + 1);
  };
  for (const project of children.get(null) ?? []) walk(project, 0);
  for (const project of projects) walk(project, 0);
  return out;
}

/** What part of each day's GPU time was the project's, by usage grouped by project and day; days in order. */
export function shareByDay(rows: readonly { project?: string | null; day?: string | null; gpu_seconds: number }[], project: string): Map<string, number> {
  const all = new Map<string, number>();
  const own = new Map<string, number>();
  for (const { project: of, day, gpu_seconds: seconds } of rows) {
    if (!day) continue;
    all.set(day, (all.get(day) ?? 0) + seconds);
    if (of === project) own.set(day, (own.get(day) ?? 0) + seconds);
  }
  return new Map([...all].filter(([, seconds]) => seconds > 0).sort(([a], [b]) => (a < b ? -1 : 1)).map(([day, seconds]) => [day, (own.get(day) ?? 0) / seconds]));
}
