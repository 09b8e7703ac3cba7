# cmake -DFOLDER=… -DFILES=a;b -DOUTPUT=x.cpp -P embed_files.cmake : the files, and each once more as gzip, inside a .cpp by
# .incbin. (As numbers in braces a megabyte takes the compiler minutes.)
get_filename_component(build ${OUTPUT} DIRECTORY)
set(number 0)
foreach(file ${FILES})
  execute_process(COMMAND gzip -9 -n -c ${FOLDER}/${file} OUTPUT_FILE ${build}/${file}.gz COMMAND_ERROR_IS_FATAL ANY)
  foreach(kind plain gzip)
    set(name tutti_docs_${kind}_${number})
    if(kind STREQUAL plain)
      set(path ${FOLDER}/${file})
    else()
      set(path ${build}/${file}.gz)
    endif()
    string(APPEND blobs "EMBED(${name}, \"${path}\")\n")
  endforeach()
  string(APPEND entries "    {\"${file}\", TEXT(tutti_docs_plain_${number}), TEXT(tutti_docs_gzip_${number})},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT} "// Made by api/docs_viewer/embed_files.cmake.
#include \"api/docs_viewer/docs_viewer.h\"

#define EMBED(name, file)                                                                      \\
  __asm__(\".section .rodata,\\\"a\\\",@progbits\\n.globl \" #name \"\\n.hidden \" #name \"\\n\" #name  \\
          \":\\n.incbin \\\"\" file \"\\\"\\n.globl \" #name \"_end\\n.hidden \" #name \"_end\\n\" #name   \\
          \"_end:\\n.byte 0\\n.previous\\n\");                                                      \\
  extern \"C\" const char name[];                                                                \\
  extern \"C\" const char name##_end[];
${blobs}
#define TEXT(name) \\
  std::string_view { name, static_cast<std::size_t>(name##_end - name) }

namespace tutti::api {

std::span<const http::EmbeddedFile> docs_viewer_files() {
  static const http::EmbeddedFile kFiles[] = {
${entries}  };
  return kFiles;
}

}  // namespace tutti::api
")
