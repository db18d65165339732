// Autolab in OpenCode: registers the pack's agents and skills where they are not installed as files, and guards what
// the pack's agents do with OpenCode's own tools. Their shell commands are guarded by scripts/guard_shell.py.
//
// One object for both generations: OpenCode 1.18.29 and newer calls `server`, OpenCode 2 calls `setup`.
// Plain JavaScript without packages, since nothing is installed beside a plugin file.

import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"

// The pack's roles. An agent of that name is ours only if its permissions name our scripts or our state, so that a
// user's own "reviewer" is never touched.
const ROLES = ["lab", "researcher", "planner", "worker", "coordinator", "reviewer", "engineer", "reporter"]
const SPECIALIST = /^specialists\/[^/]+$/
const OUR_PERMISSIONS = /\bscripts\/\w+\.py|\.autolab\//
const WRITERS = ["worker", "engineer"]
const READERS = ["lab", "reviewer"] // of everybody's workspaces
const COORDINATOR = "lab"
// OpenCode's own agents that work in the session of another: they say nothing about whose session it is.
const HELPERS = ["title", "summary", "compaction"]

const STATE = ".autolab"
const INSTRUCTIONS = ["AGENTS.md", "CLAUDE.md", "CONTEXT.md"]
// As OpenCode finds references to files in a prompt, and the same with all that might end one.
const REFERENCES = [/(?<![\w`])@(\.?[^\s`,.]*(?:\.[^\s`,.]+)*)/g, /@([^\s`,;:"'()<>[\]{}]+)/g]

const READ_TOOLS = ["read", "list", "lsp"]
const SEARCH_TOOLS = ["grep", "glob"]
const WRITE_TOOLS = ["edit", "write", "multiedit"]
const PATCH_TOOLS = ["apply_patch", "patch"]
const SHELL_TOOLS = ["bash", "shell"]
const DELEGATE_TOOLS = ["task", "subagent"]
const HARMLESS_TOOLS = ["invalid", "todowrite", "todoread", "skill", "question"]
const WEB_TOOLS = ["webfetch", "websearch", "codesearch"]
// Tools of other plugins and of MCP servers are judged by what they are called and what they are given.
const MIGHTY_NAMES = [
  ...["write", "edit", "patch", "create", "delete", "remove", "move", "rename", "copy", "save", "replace", "insert"],
  ...["append", "upload", "download", "exec", "run", "shell", "bash", "terminal", "python", "eval", "notebook", "git"],
]
const MIGHTY_ARGUMENT = /^(command|cmd|script|code|source|url|uri)$|path|file|dir|folder|cwd|patch/i

const here = path.dirname(fs.realpathSync(fileURLToPath(import.meta.url)))
const PACK = path.resolve(here, "..")
const SHELL = [path.join(PACK, "scripts"), path.join(PACK, "autolab", "scripts")]
  .map((folder) => path.join(folder, "guard_shell.py"))
  .find((file) => fs.existsSync(file))

class Refused extends Error {
  constructor(what, why, mend) {
    super(`[refused] ${what}: ${why} (mend: ${mend})`.replace(/\s+/g, " "))
  }
}

// Files and paths --------------------------------------------------------------------------------------------------

function exists(file) {
  return fs.existsSync(file)
}

function isFolder(file) {
  try {
    return fs.statSync(file).isDirectory()
  } catch {
    return false
  }
}

function isInside(file, folder) {
  return file === folder || file.startsWith(folder === "/" ? "/" : folder + path.sep)
}

// Where the kernel would end up, links followed as it does, with what does not exist yet appended. Unlike realpath it
// follows a link whose target is missing, and unlike path.resolve it takes `..` after a link for what it is.
function landing(file, depth = 0) {
  if (depth > 40) throw new Refused(file, "too many links", "name the file itself")
  let place = "/"
  for (const part of file.split("/")) {
    if (part === "" || part === ".") continue
    if (part === "..") {
      place = path.dirname(place)
      continue
    }
    const next = path.join(place, part)
    let target
    try {
      target = fs.readlinkSync(next)
    } catch {
      place = next // no link, or nothing there
      continue
    }
    place = landing(target.startsWith("/") ? target : `${place}/${target}`, depth + 1)
  }
  return place
}

// Every place that a tool could mean by a path: some resolve `..` by the text, others leave it to the kernel.
function places(file, directory) {
  if (typeof file !== "string" || file === "" || file.includes("\0"))
    throw new Refused("an empty or broken path", "it names no file", "give the path of a file in the lab")
  const whole = file.startsWith("/") ? file : `${directory}/${file}`
  return [...new Set([landing(whole), landing(path.resolve(directory, file))])]
}

function labRoot(directory) {
  const real = landing(directory)
  const at = real.indexOf(`/${STATE}/`)
  if (at >= 0) return real.slice(0, at) || "/" // opened in a workspace
  for (let folder = real; ; folder = path.dirname(folder)) {
    if (isFolder(path.join(folder, STATE)) || exists(path.join(folder, "task.yaml"))) return folder
    if (folder === path.dirname(folder)) return real
  }
}

// Who owns which workspace; the engine writes one small file for each when it opens one.
function owner(root, trial) {
  try {
    return fs.readFileSync(path.join(root, STATE, "owners", trial), "utf8").split("\n")[0].trim()
  } catch {
    return ""
  }
}

function trialOf(root, session) {
  let names = []
  try {
    names = fs.readdirSync(path.join(root, STATE, "owners")).filter((name) => !name.startsWith("."))
  } catch {
    return "" // none was ever opened
  }
  const own = names.filter((name) => session && owner(root, name) === session)
  const age = (name) => fs.statSync(path.join(root, STATE, "owners", name), { throwIfNoEntry: false })?.mtimeMs ?? 0
  return own.sort((a, b) => age(a) - age(b)).at(-1) ?? ""
}

// What agents may do -----------------------------------------------------------------------------------------------

class Guard {
  constructor(directory, worktree) {
    this.directory = directory
    this.worktree = worktree ?? directory
    this.root = labRoot(directory)
    this.isLab = isFolder(path.join(this.root, STATE)) || exists(path.join(this.root, "task.yaml"))
    this.ours = new Set()
    this.agents = new Map() // session: agent
    this.isShellGuarded = () => false
    this.calls = new Map() // of shells that agents are about to run: how many under one name
  }

  // The names in `agents` ({name: {permission}}) that are the pack's.
  recognise(agents) {
    for (const [name, agent] of Object.entries(agents ?? {}))
      if (isRole(name) && OUR_PERMISSIONS.test(JSON.stringify(agent?.permission ?? agent?.permissions ?? "")))
        this.ours.add(name)
  }

  remember(session, agent) {
    if (session && agent && !HELPERS.includes(agent)) this.agents.set(session, agent)
  }

  // The role of a session, undefined if its agent is none of ours.
  role(session) {
    const agent = this.agents.get(session)
    return this.ours.has(agent) ? agent : undefined
  }

  // Throws Refused if `role` may not make this call. Returns what to change in its arguments, if anything.
  check(role, session, tool, args) {
    if (HARMLESS_TOOLS.includes(tool)) return
    if (READ_TOOLS.includes(tool)) return this.mayRead(role, session, args.filePath ?? args.path ?? this.directory)
    if (SEARCH_TOOLS.includes(tool)) return this.maySearch(role, session, tool, args)
    if (WRITE_TOOLS.includes(tool)) {
      for (const file of [args.filePath ?? args.path, ...edited(args)]) this.mayWrite(role, session, file)
      return
    }
    if (PATCH_TOOLS.includes(tool)) {
      for (const file of patched(args.patchText ?? args.patch)) this.mayWrite(role, session, file)
      return
    }
    if (SHELL_TOOLS.includes(tool)) return this.mayRun(args)
    if (DELEGATE_TOOLS.includes(tool)) return this.mayDelegate(role, session, args)
    if (WEB_TOOLS.includes(tool))
      throw new Refused(tool, "agents of the lab have no access to the web", "use the lab's own paper search")
    this.mayUseUnknown(role, session, tool, args)
  }

  mayRead(role, session, file) {
    for (const place of places(file, this.directory)) {
      const why = this.hides(role, session, place) ?? this.misleads(role, session, place)
      if (why) throw new Refused(`reading ${short(file)}`, why, this.wayOut(role, session))
    }
  }

  // Why a role may not see what is at a real path; undefined if it may.
  hides(role, session, place) {
    if (!isInside(place, this.root)) {
      const own = ["agents", "skills", "scripts"].map((folder) => path.join(PACK, folder))
      if (SHELL) own.push(path.dirname(SHELL))
      return own.some((folder) => isInside(place, folder)) ? undefined : "it lies outside the lab"
    }
    const parts = path.relative(this.root, place).split(path.sep)
    if (parts.some((part) => part.startsWith(".env"))) return "such files hold keys"
    if (parts[0] === ".git") return "the project's own repository is not an agent's business"
    if (!parts.includes(STATE)) return undefined
    const inWorkspaces = parts[0] === STATE && parts[1] === "workspaces"
    if (!inWorkspaces || (!parts[2] && !READERS.includes(role))) return "it belongs to the lab's engine"
    if (READERS.includes(role) || this.owns(role, session, parts[2])) return undefined
    return "it is another agent's workspace"
  }

  // OpenCode adds the instructions that it finds on the way to a file, as if the user had written them. In a workspace
  // it is the agent under review who writes them.
  misleads(role, session, place) {
    const workspaces = path.join(this.root, STATE, "workspaces")
    if (!isInside(place, workspaces)) return undefined
    const [trial, ...parts] = path.relative(workspaces, place).split(path.sep)
    if (!trial || this.owns(role, session, trial)) return undefined
    let folder = path.join(workspaces, trial)
    for (const part of ["", ...parts]) {
      folder = path.join(folder, part)
      const found = INSTRUCTIONS.find((name) => exists(path.join(folder, name)))
      if (found) return `there is a ${found} beside it, which would speak to you as if it were the user`
    }
    return undefined
  }

  owns(role, session, trial) {
    return isWriter(role) && Boolean(trial) && Boolean(session) && owner(this.root, trial) === session
  }

  maySearch(role, session, tool, args) {
    let folder = args.path ?? this.directory
    if (!places(folder, this.directory).every(isFolder)) folder = path.dirname(path.resolve(this.directory, folder))
    this.mayRead(role, session, folder)
    // Ripgrep would search the lab's own files too, and stop at its limit before it comes to the user's. What is
    // found there all the same is taken out of the result.
    const whole = landing(path.resolve(this.directory, folder)) === this.root
    return whole && tool === "grep" && !args.include ? { include: `!{**/.env*,${STATE}/**,.git/**}` } : undefined
  }

  // What a search found, without what the role may not see. `text` is OpenCode's own, with absolute paths.
  filtered(role, session, tool, text) {
    const visible = (file) => places(file, this.directory).every((place) => !this.hides(role, session, place))
    const kept = []
    let shown = true
    let found = 0
    for (const line of text.split("\n")) {
      const file = tool === "grep" ? /^(\/.*):$/.exec(line)?.[1] : /^(\/.*)$/.exec(line)?.[1]
      if (file !== undefined) shown = visible(file)
      if (tool === "grep" && file === undefined && !line.startsWith("  Line ")) {
        kept.push(line)
        continue
      }
      if (shown) kept.push(line)
      if (shown && (tool === "glob" ? file !== undefined : file === undefined)) found += 1
    }
    if (kept.length === text.split("\n").length) return text
    if (found === 0) return "No files found"
    return kept.join("\n").replace(/\n{3,}/g, "\n\n").replace(/^Found \d+ matches/, `Found ${found} matches`)
  }

  mayWrite(role, session, file) {
    const what = `writing ${short(file)}`
    if (!isWriter(role)) throw new Refused(what, `a ${role} changes no files`, "say in your answer what to change")
    for (const place of places(file, this.directory)) {
      const parts = path.relative(path.join(this.root, STATE, "workspaces"), place).split(path.sep)
      const inside = isInside(place, path.join(this.root, STATE, "workspaces")) && parts.length > 1
      if (!inside) throw new Refused(what, "only your own workspace can be written", this.wayOut(role, session))
      if (!this.owns(role, session, parts[0]))
        throw new Refused(what, "it is not your workspace", this.wayOut(role, session))
      if (parts[1] === ".git") throw new Refused(what, "git keeps that itself", "edit the program's files")
    }
  }

  wayOut(role, session) {
    if (!isWriter(role)) return "use your own commands; ask the lab agent for what else you need"
    const trial = trialOf(this.root, session)
    if (trial) return `yours is ${path.join(STATE, "workspaces", trial)}`
    return "open a trial first: scripts/trial.py open"
  }

  mayRun(args) {
    if (!this.isShellGuarded())
      throw new Refused("a shell command", "the guard around it is missing", "tell the user to install the pack again")
    for (const place of places(args.workdir ?? this.directory, this.directory))
      if (!isInside(place, this.root))
        throw new Refused(`a command in ${short(args.workdir)}`, "it lies outside the lab", `work in ${this.root}`)
  }

  expectShell(session, call) {
    const name = `${session} ${call}`
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1)
  }

  mayDelegate(role, session, args) {
    const target = args.subagent_type ?? args.agent
    if (role !== COORDINATOR)
      throw new Refused(`delegating to ${short(target)}`, `a ${role} works alone`, "say in your answer what is needed")
    const colleagues = [...this.ours].filter((name) => name !== COORDINATOR)
    if (!colleagues.includes(target))
      throw new Refused(`delegating to ${short(target)}`, "it is no agent of the lab", `one of ${colleagues.join(", ")}`)
    // OpenCode replaces @path in the prompt of a subagent by the file, and asks nobody.
    for (const pattern of REFERENCES)
      for (const [, name] of String(args.prompt ?? "").matchAll(pattern))
        for (const base of new Set([this.worktree, this.directory, this.root]))
          for (const file of [name, name.replace(/[.!?…]+$/, "")]) {
            const whole = file.startsWith("~/") ? path.join(os.homedir(), file.slice(2)) : path.resolve(base, file)
            if (file && exists(whole)) this.mayRead(role, session, whole)
          }
  }

  mayUseUnknown(role, session, tool, args) {
    const named = Object.keys(args ?? {}).find((key) => MIGHTY_ARGUMENT.test(key))
    if (named || MIGHTY_NAMES.some((name) => tool.toLowerCase().includes(name)))
      throw new Refused(
        `the tool ${short(tool)}`,
        "it could touch files or programs behind the lab's back",
        "use what your instructions name",
      )
  }

  // Whether a shell that starts is one that an agent asked for, and not the user. Models number their calls, so the
  // same name may come twice, and from another session.
  isAgents(session, call) {
    const name = `${session} ${call}`
    const left = (this.calls.get(name) ?? 0) - 1
    if (left > 0) this.calls.set(name, left)
    else this.calls.delete(name)
    return left >= 0
  }

  environment(role, session) {
    return {
      AUTOLAB_LAB: this.root,
      AUTOLAB_ROLE: role,
      AUTOLAB_SESSION: session,
      AUTOLAB_TRIAL: isWriter(role) ? trialOf(this.root, session) : "",
    }
  }
}

function isRole(name) {
  return ROLES.includes(name) || SPECIALIST.test(name)
}

function isWriter(role) {
  return WRITERS.includes(role) || SPECIALIST.test(role)
}

function short(text) {
  const one = String(text).replace(/\s+/g, " ")
  return one.length > 120 ? `${one.slice(0, 117)}...` : one
}

function edited(args) {
  return (Array.isArray(args.edits) ? args.edits : []).map((edit) => edit?.filePath ?? edit?.path).filter(Boolean)
}

// Every file that a patch adds, changes, deletes or moves to.
function patched(text) {
  const files = [...String(text ?? "").matchAll(/^[ \t]*\*\*\* (?:(?:Add|Update|Delete) File|Move to):(.*)$/gm)]
  if (!files.length) throw new Refused("a patch", "it names no file", "name each file as the patch format says")
  return files.map(([, file]) => file.trim())
}

// Agents and skills ------------------------------------------------------------------------------------------------

// The small part of YAML that front matter needs: scalars, maps by indentation, and {a: b}.
function parseYaml(text) {
  const root = {}
  const stack = [{ indent: -1, map: root }]
  const lines = text.split(/\r?\n/)
  for (let at = 0; at < lines.length; at += 1) {
    const found = /^(\s*)("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#"'][^:]*?)\s*:(?:\s+(.*))?$/.exec(lines[at])
    if (!found) continue
    const indent = found[1].length
    const key = String(scalar(found[2], true))
    const value = (found[3] ?? "").replace(/^#.*$/, "").trim()
    while (stack.at(-1).indent >= indent) stack.pop()
    const map = stack.at(-1).map
    if (/^[|>][+-]?$/.test(value)) {
      const block = []
      while (at + 1 < lines.length && (lines[at + 1].trim() === "" || /^\s*/.exec(lines[at + 1])[0].length > indent))
        block.push(lines[(at += 1)].trim())
      map[key] = block.join(value.startsWith("|") ? "\n" : " ").trim()
    } else if (value === "") {
      map[key] = {}
      stack.push({ indent, map: map[key] })
    } else map[key] = value.startsWith("{") ? flowMap(value) : scalar(value)
  }
  return root
}

function flowMap(text) {
  const map = {}
  const quoted = /"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'/.source
  const pair = new RegExp(`\\s*(${quoted}|[^,:{}]+?)\\s*:\\s*(${quoted}|[^,{}]*)\\s*(?:,|\\}|$)`, "y")
  pair.lastIndex = 1
  for (let found = pair.exec(text); found; found = pair.exec(text))
    map[scalar(found[1], true)] = scalar(found[2].trim())
  return map
}

function scalar(text, isKey = false) {
  if (text.startsWith('"')) return JSON.parse(/^"(?:[^"\\]|\\.)*"/.exec(text)[0])
  if (text.startsWith("'")) return /^'((?:[^']|'')*)'/.exec(text)[1].replaceAll("''", "'")
  const plain = text.replace(/\s+#.*$/, "").trim()
  if (isKey) return plain
  if (plain === "true" || plain === "false") return plain === "true"
  return /^-?\d+(\.\d+)?$/.test(plain) ? Number(plain) : plain
}

function readMarkdown(file) {
  const found = /^---\r?\n([\s\S]*?)\r?\n---[ \t]*\r?\n?([\s\S]*)$/.exec(fs.readFileSync(file, "utf8"))
  return found ? { ...parseYaml(found[1]), prompt: found[2].trim() } : undefined
}

function packAgents() {
  const folder = path.join(PACK, "agents")
  // Beside an installed copy lie the user's own agents, which OpenCode reads itself.
  if (!exists(path.join(PACK, "scripts", "guard_shell.py")) || !isFolder(folder)) return {}
  const agents = {}
  for (const entry of fs.readdirSync(folder, { recursive: true }).map(String).sort()) {
    const name = entry.replace(/\.md$/, "").split(path.sep).join("/")
    if (entry.endsWith(".md") && isRole(name)) agents[name] = readMarkdown(path.join(folder, entry))
  }
  return agents
}

function packSkills() {
  const folder = path.join(PACK, "skills")
  if (!exists(path.join(PACK, "scripts", "guard_shell.py")) || !isFolder(folder)) return []
  return fs.readdirSync(folder).filter((id) => exists(path.join(folder, id, "SKILL.md"))).sort()
}

// Folders in which OpenCode looks for agents and skills by itself.
function configFolders(directory, worktree) {
  const home = os.homedir()
  const found = [path.join(process.env.XDG_CONFIG_HOME || path.join(home, ".config"), "opencode")]
  if (process.env.OPENCODE_CONFIG_DIR) found.push(process.env.OPENCODE_CONFIG_DIR)
  for (const base of [home, ...ancestors(directory, worktree)])
    for (const name of [".opencode", ".claude", ".agents"]) found.push(path.join(base, name))
  return found
}

function ancestors(directory, worktree) {
  const found = []
  for (let folder = directory; ; folder = path.dirname(folder)) {
    found.push(folder)
    if (folder === worktree || folder === path.dirname(folder)) return found
  }
}

function isDiscovered(folders, kind, name) {
  return folders.some((folder) => exists(path.join(folder, kind, name)) || exists(path.join(folder, `${kind}s`, name)))
}

// OpenCode 1 -------------------------------------------------------------------------------------------------------

async function server({ directory, worktree }) {
  const guard = new Guard(directory, worktree)
  // The whole of OpenCode runs in a sandbox that was built for one seat: its walls are the guard.
  const confined = Boolean(process.env.AUTOLAB_BRIDGE)
  let ordinary = ""

  return {
    async config(config) {
      const folders = configFolders(directory, worktree)
      const agents = (config.agent ??= {})
      for (const [name, agent] of Object.entries(packAgents())) {
        const theirs = agents[name] ?? {}
        const another = isDiscovered(folders, "agent", `${name}.md`) || theirs.prompt || theirs.description
        if (agent && !another) agents[name] = { ...agent, ...theirs }
      }
      guard.recognise(agents)
      const skills = packSkills().filter((id) => !isDiscovered(folders, "skill", path.join(id, "SKILL.md")))
      if (skills.length) {
        config.skills ??= {}
        const known = Array.isArray(config.skills) ? config.skills : (config.skills.paths ??= [])
        for (const id of skills) {
          const folder = path.join(PACK, "skills", id)
          if (!known.includes(folder)) known.push(folder)
        }
      }
      if (SHELL && !confined && config.shell !== SHELL) {
        ordinary = ordinaryShell(config.shell)
        config.shell = SHELL
      }
      guard.isShellGuarded = () => Boolean(SHELL) && config.shell === SHELL // another plugin may change it later
      // Language servers and formatters run outside every sandbox what they find beside a file: a Python environment,
      // a plugin. In a workspace an agent writes those.
      if (guard.isLab) Object.assign(config, { lsp: false, formatter: false })
    },

    async "tool.definition"(input, output) {
      if (SHELL_TOOLS.includes(input.toolID) && ordinary)
        output.description = output.description.replace(path.basename(SHELL), path.basename(ordinary))
    },

    async "chat.message"(input, output) {
      guard.remember(input.sessionID, output?.message?.agent ?? input.agent)
    },

    async "chat.params"(input) {
      guard.remember(input.sessionID, input.agent?.name ?? input.agent)
    },

    async "tool.execute.before"(input, output) {
      if (SHELL_TOOLS.includes(input.tool)) guard.expectShell(input.sessionID, input.callID)
      const role = guard.role(input.sessionID)
      if (role === undefined || confined) return
      Object.assign(output.args, guard.check(role, input.sessionID, input.tool, output.args ?? {}))
    },

    async "tool.execute.after"(input, output) {
      const role = guard.role(input.sessionID)
      if (role === undefined || confined || !SEARCH_TOOLS.includes(input.tool)) return
      if (typeof output?.output === "string")
        output.output = guard.filtered(role, input.sessionID, input.tool, output.output)
    },

    async "shell.env"(input, output) {
      if (confined) return
      output.env.AUTOLAB_SHELL = ordinary
      const role = guard.role(input.sessionID)
      // Without a call that we have seen, it is the user who types a command into a session.
      const typed = !guard.isAgents(input.sessionID, input.callID)
      if (role !== undefined && !typed) Object.assign(output.env, guard.environment(role, input.sessionID))
      else Object.assign(output.env, { AUTOLAB_ROLE: "", AUTOLAB_TYPED: typed && input.callID ? "1" : "" })
    },
  }
}

// What OpenCode would have used: the configured shell, the user's, or bash.
function ordinaryShell(configured) {
  const strange = (shell) => ["fish", "nu"].includes(path.basename(shell))
  const onPath = (name) =>
    name.includes("/")
      ? name
      : (process.env.PATH ?? "").split(":").map((folder) => path.join(folder, name)).find(exists)
  for (const shell of [configured, process.env.SHELL, "bash"]) {
    const found = shell && !strange(shell) && onPath(shell)
    if (found && exists(found) && found !== SHELL) return found
  }
  return "/bin/sh"
}

// OpenCode 2 -------------------------------------------------------------------------------------------------------

// Written by its documentation of October 2026 and not run: no build of it could be installed where this was made. So
// it is small, and where the first generation would look into a result, this one refuses.
async function setup(ctx) {
  const directory = ctx.location.directory
  const guard = new Guard(directory, ctx.location.project?.canonical ?? directory)
  const waiting = new Map() // shell command: sessions that are about to run it

  await ctx.agent.transform((editor) => {
    for (const [name, agent] of Object.entries(packAgents())) {
      if (!agent || editor.get(name)) continue
      editor.update(name, (draft) => {
        draft.name = name
        draft.description = agent.description
        draft.mode = agent.mode
        draft.system = agent.prompt
        draft.permissions = rules(agent.permission)
      })
    }
    for (const agent of editor.list()) guard.recognise({ [agent.id ?? agent.name]: agent })
  })
  await ctx.skill.transform((editor) => {
    for (const id of packSkills()) {
      if (editor.get(id)) continue
      const file = path.join(PACK, "skills", id, "SKILL.md")
      const skill = readMarkdown(file)
      if (skill) editor.add({ id, name: id, description: skill.description, path: file, content: skill.prompt })
    }
  })
  if (process.env.AUTOLAB_BRIDGE) return
  guard.isShellGuarded = () => Boolean(SHELL)

  await ctx.tool.hook("execute.before", (event) => {
    guard.remember(event.sessionID, event.agent)
    const role = guard.role(event.sessionID)
    if (role === undefined) return
    const args = event.input ?? {}
    guard.check(role, event.sessionID, event.tool, args)
    if (event.tool === "grep" && landing(path.resolve(directory, args.path ?? ".")) === guard.root)
      throw new Refused("a search through the whole lab", "its own files are not for agents", "name a folder or a file")
    if (SHELL_TOOLS.includes(event.tool)) {
      const sessions = waiting.get(args.command) ?? []
      waiting.set(args.command, [...sessions, event.sessionID])
    }
  })
  await ctx.tool.hook("execute.after", (event) => {
    const command = event.input?.command
    if (!SHELL_TOOLS.includes(event.tool) || !waiting.has(command)) return
    const left = waiting.get(command).filter((session) => session !== event.sessionID)
    if (left.length) waiting.set(command, left)
    else waiting.delete(command)
  })
  await ctx.shell.hook("create.before", (event) => {
    // The hook is not told whose command it is. If several agents run the same, none of them gets a workspace.
    const sessions = [...new Set(waiting.get(event.command) ?? [])]
    if (!sessions.length) return
    const [session] = sessions
    Object.assign(event.env, guard.environment(guard.role(session), sessions.length === 1 ? session : ""))
    event.env.AUTOLAB_SHELL = event.shell
    event.shell = SHELL
  })
}

// V1's permission map as V2's list of rules; in both the last match wins.
function rules(permission) {
  const renamed = { bash: "shell", task: "subagent" }
  return Object.entries(permission ?? {}).flatMap(([key, value]) => {
    const action = renamed[key] ?? key
    if (typeof value === "string") return [{ action, resource: "*", effect: value }]
    return Object.entries(value).map(([resource, effect]) => ({ action, resource, effect }))
  })
}

export default { id: "autolab", server, setup }
