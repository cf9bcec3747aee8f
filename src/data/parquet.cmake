# SPDX-License-Identifier: Apache-2.0
# naite_parquet.so, the plugin that reads Parquet, where Arrow's C++ libraries are: in a pyarrow
# installation, whose wheel carries them with their headers, or as a package that CMake finds. The
# program does not link it. NAITE_PARQUET says where to look.
set(NAITE_PARQUET AUTO CACHE STRING
  "Read Parquet: AUTO (where CMake or python3 finds Arrow), OFF, or an environment with pyarrow")
if(NAITE_PARQUET STREQUAL "OFF")
  return()
endif()

if(NAITE_PARQUET STREQUAL "AUTO")
  execute_process(COMMAND python3 -c "import importlib.util as u; s = u.find_spec('pyarrow')
print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE pyarrow OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
else()
  get_filename_component(naite_arrow_folder "${NAITE_PARQUET}" ABSOLUTE
    BASE_DIR ${CMAKE_SOURCE_DIR})
  file(GLOB pyarrow LIST_DIRECTORIES true ${naite_arrow_folder}/pyarrow
    ${naite_arrow_folder}/lib*/python3*/site-packages/pyarrow)
endif()
if(pyarrow)
  list(GET pyarrow 0 pyarrow)
endif()
file(GLOB arrow_libraries ${pyarrow}/libparquet.so.* ${pyarrow}/libarrow.so.*)
if(pyarrow AND arrow_libraries)
  set(arrow_headers ${pyarrow}/include)
else()
  find_package(Parquet CONFIG QUIET HINTS ${naite_arrow_folder})
  set(arrow_headers "")
  set(arrow_libraries "")
  if(TARGET Parquet::parquet_shared)
    set(arrow_libraries Parquet::parquet_shared)
  endif()
endif()

set(problem "")
if(NOT arrow_libraries)
  set(problem "no Arrow and no pyarrow with its C++ libraries was found")
else()
  # Other releases and other C++ ABIs exist: what does not compile and link is told here.
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_INCLUDES ${arrow_headers})
  set(CMAKE_REQUIRED_LIBRARIES ${arrow_libraries})
  string(MD5 which "${arrow_libraries}")
  check_cxx_source_compiles("#include <arrow/memory_pool.h>
    #include <parquet/exception.h>
    #include <parquet/file_reader.h>
    int main() {
      arrow::ProxyMemoryPool pool(arrow::system_memory_pool());
      parquet::ReaderProperties properties(&pool);
      throw parquet::ParquetStatusException(arrow::Status::Invalid(\"x\"));
      return parquet::ParquetFileReader::OpenFile(\"x\", false, properties) == nullptr;
    }" NAITE_ARROW_LINKS_${which})
  unset(CMAKE_REQUIRED_INCLUDES)
  unset(CMAKE_REQUIRED_LIBRARIES)
  if(NOT NAITE_ARROW_LINKS_${which})
    set(problem "${arrow_libraries} does not compile and link here; that of pyarrow 26 does")
  endif()
endif()
if(problem)
  if(NOT NAITE_PARQUET STREQUAL "AUTO")
    message(FATAL_ERROR "NAITE_PARQUET=${NAITE_PARQUET}: ${problem}")
  endif()
  message(STATUS "Parquet is not read: ${problem}")
  return()
endif()

add_library(naite_parquet MODULE ${CMAKE_CURRENT_LIST_DIR}/parquet_plugin.cc)
target_include_directories(naite_parquet PRIVATE ${CMAKE_SOURCE_DIR}/src)
target_include_directories(naite_parquet SYSTEM PRIVATE ${arrow_headers})
target_compile_options(naite_parquet PRIVATE -Wall -Wextra -Werror)
target_link_libraries(naite_parquet PRIVATE ${arrow_libraries})
set_target_properties(naite_parquet PROPERTIES PREFIX "" CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
